"""How far a partition may be forgotten: which chunks must be read again after a crash.

In: chunks as they are placed on a session's timeline, committed boundaries, items held for reordering.
Out: per session the first sequence and offset that must be re-read; per partition the next offset to store.
Does not know Kafka, SQL, asyncio or audio. Invariant: an offset below the stored one is never needed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

NEVER_SETTLED = 1 << 62  # end sample of an entry that only the end of its session releases


@dataclass(frozen=True, slots=True)
class Placed:
    """A chunk on its session's timeline: `end_sample` is the 16 kHz position just after its audio."""

    offset: int
    sequence: int
    end_sample: int


@dataclass(slots=True)
class SessionLedger:
    """Chunks of one session that a restart would still have to read, in sequence order."""

    placed: deque[Placed] = field(default_factory=deque)

    def place(self, offset: int, sequence: int, end_sample: int) -> None:
        """Note a chunk (or an end message, with `NEVER_SETTLED`)."""
        self.placed.append(Placed(offset, sequence, end_sample))

    def release(self, needed_sample: int) -> None:
        """Forget chunks that end at or before the lowest sample that any track still needs."""
        while self.placed and self.placed[0].end_sample <= needed_sample:
            self.placed.popleft()

    def resume(
        self, next_sequence: int, seen_offset: int, held: Iterable[tuple[int, int]]
    ) -> tuple[int, int]:
        """First `(sequence, offset)` to re-read; `held` are `(sequence, offset)` of items waiting for their turn.

        With nothing to re-read: the next sequence, and the offset after the last one seen.
        """
        needed = [(p.sequence, p.offset) for p in self.placed] + list(held)
        if not needed:
            return next_sequence, seen_offset + 1
        sequence = self.placed[0].sequence if self.placed else next_sequence
        return sequence, min(offset for _, offset in needed)


def next_offset(position: int, resume_offsets: Iterable[int]) -> int:
    """The partition's offset to store: nothing that a session must re-read lies below it.

    `position` is the next offset expected from Kafka; `resume_offsets` those of the sessions in memory.
    """
    return min([position, *resume_offsets])
