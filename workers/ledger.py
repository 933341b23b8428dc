"""How far a partition may be forgotten: which chunks must be read again after a crash.

In: chunks as they are placed on a session's timeline, committed boundaries, items held for reordering.
Out: per session the first sequence and offset that must be re-read; per partition the next offset to store.
Does not know Kafka, SQL, asyncio or audio. Invariant: an offset below the stored one is never needed again.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

# fates that are decided before a message has its turn
OUT_OF_TURN = frozenset({"duplicate", "late", "sequence_reset", "sequence_jump", "after_end"})
NEVER_SETTLED = 1 << 62  # end sample of an entry that only the end of its session releases


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk on its session's timeline: `end_sample` is the 16 kHz position just after its audio."""

    offset: int
    sequence: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class Past:
    """What an earlier life of the process has committed of a session: its records are read again, their fates stand.

    resume_sequence, resume_offset: the first chunk that is still needed. seen_offset: the last one read. fates: from
    resume_offset on, the reason of each dead letter, and "duplicate".
    """

    resume_sequence: int = 0
    resume_offset: int = 0
    seen_offset: int = -1
    ended: bool = False
    fates: Mapping[int, str] = field(default_factory=dict)

    def settled(self, offset: int, sequence: int) -> bool:
        """Nothing is to be done with this message any more."""
        if offset > self.seen_offset:
            return False
        needed = offset >= self.resume_offset and sequence >= self.resume_sequence and not self.ended
        return not needed or self.fates.get(offset) in OUT_OF_TURN


@dataclass(slots=True)
class SessionLedger:
    """Messages of one session that a restart would still have to read, in sequence order.

    One that was refused in its turn is among them: without it the turn would be waited for.
    """

    placed: deque[Placed] = field(default_factory=deque)

    def place(self, offset: int, sequence: int, end_sample: int) -> None:
        """Note a chunk (or with `NEVER_SETTLED` an end message, or a chunk whose place is not decided yet)."""
        self.placed.append(Placed(offset, sequence, end_sample))

    def take_back(self) -> None:
        """Forget the newest: its place is decided now."""
        self.placed.pop()

    def release(self, needed_sample: int) -> None:
        """Forget chunks that end at or before the lowest sample that any track still needs."""
        while self.placed and self.placed[0].end_sample <= needed_sample:
            self.placed.popleft()

    def resume(self, next_sequence: int, seen_offset: int, held: Iterable[int]) -> tuple[int, int]:
        """First `(sequence, offset)` to re-read; `held` are the offsets of items waiting for their turn.

        With nothing to re-read: the next sequence, and the offset after the last one seen.
        """
        sequence = self.placed[0].sequence if self.placed else next_sequence
        return sequence, min([*(p.offset for p in self.placed), *held], default=seen_offset + 1)


class ResumeOffsets:
    """The lowest offset that any session of a partition must re-read, at the cost of the sessions that change."""

    def __init__(self) -> None:
        self._offsets: dict[Hashable, int] = {}
        self._lowest: list[
            tuple[int, int, Hashable]
        ] = []  # a heap; entries that no longer hold are dropped late
        self._notes = 0

    def note(self, session: Hashable, offset: int | None) -> None:
        """What a session needs now; None for nothing."""
        if offset is None:
            self._offsets.pop(session, None)
            return
        if self._offsets.get(session) == offset:
            return
        self._offsets[session] = offset
        self._notes += 1
        heapq.heappush(self._lowest, (offset, self._notes, session))
        if len(self._lowest) > 2 * len(self._offsets) + 64:
            self._lowest = [(at, n, key) for n, (key, at) in enumerate(self._offsets.items())]
            heapq.heapify(self._lowest)

    def next_offset(self, position: int) -> int:
        """The partition's offset to store, as `next_offset` would find it from all sessions."""
        while self._lowest and self._offsets.get(self._lowest[0][2]) != self._lowest[0][0]:
            heapq.heappop(self._lowest)
        return next_offset(position, [self._lowest[0][0]] if self._lowest else [])


def next_offset(position: int, resume_offsets: Iterable[int]) -> int:
    """The partition's offset to store: nothing that a session must re-read lies below it.

    `position` is the next offset expected from Kafka; `resume_offsets` those of the sessions in memory.
    """
    return min([position, *resume_offsets])
