"""In: items of one session with their sequence numbers, in the order Kafka has them, and the time as an argument.
Out: outcomes in sequence order, one at a time. Knows no clock, no audio and no Kafka.

Invariant: every item put in comes out exactly once, as InOrder, Duplicate, Late or Far; InOrder sequences only rise,
and each number skipped lies in a Missing that came before. An item waits at most `max_wait_s` for earlier ones, and
what waits is bounded in number and bytes. So is what is remembered: of the gaps before the next turn, which only tell
Late from Duplicate, the newest `max_past_gaps`; all before them counts as one gap. A number that leaps more than
`max_jump` ahead of all others is believed once another item comes near it; until then, at most `jump_wait_s`, it waits
apart and moves nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InOrder(Generic[T]):
    """The item's turn has come."""

    item: T


@dataclass(frozen=True, slots=True)
class Duplicate(Generic[T]):
    """Its sequence has been seen already."""

    item: T


@dataclass(frozen=True, slots=True)
class Late(Generic[T]):
    """Its sequence had been given up as missing."""

    item: T


@dataclass(frozen=True, slots=True)
class Far(Generic[T]):
    """Its sequence leapt ahead, and nothing followed it there."""

    item: T


@dataclass(frozen=True, slots=True)
class Missing:
    """Sequences `first` to `last`, both included, are given up."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    sequence: int
    item: T
    arrived_s: float
    size_bytes: int


Outcome = InOrder[T] | Duplicate[T] | Late[T] | Far[T] | Missing


class Orderer(Generic[T]):
    """Reorder buffer of one session: `put` and `expire` decide, `next_turn` hands on what has its turn.

    `gaps` are (first, last) ranges given up before a restart. Where reading again crosses one of them it is not waited
    for, and its Missing comes once more, so that what follows sees the same as the first time.
    """

    def __init__(
        self,
        next_sequence: int,
        max_wait_s: float,
        max_held: int,
        gaps: Iterable[tuple[int, int]] = (),
        *,
        max_held_bytes: int = 1 << 62,
        max_jump: int = 1 << 62,
        jump_wait_s: float = 60.0,
        max_past_gaps: int = 1000,
    ) -> None:
        if max_held < 1:
            raise ValueError("max_held must be at least 1")
        self.next_sequence = next_sequence
        self._max_wait_s = max_wait_s
        self._max_held = max_held
        self._max_held_bytes = max_held_bytes
        self._max_jump = max_jump
        self._jump_wait_s = jump_wait_s
        self._max_past_gaps = max_past_gaps
        self._gaps = sorted(gaps)
        self._forget_past_gaps()
        self._held: dict[int, _Held[T]] = {}  # in order of arrival
        self._awaited = self._after_known(next_sequence)  # the first that is neither there nor given up
        self._far: _Held[T] | None = None

    @property
    def next_deadline_s(self) -> float | None:
        """When `expire` will next give up waiting; None while nothing waits."""
        waiting = self._waiting()
        return waiting[0].arrived_s + self._max_wait_s if waiting else None

    @property
    def due(self) -> bool:
        """Whether `next_turn` has something."""
        return bool(self._held) and self.next_sequence != self._awaited

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The (first, last) ranges that are known as given up, in order."""
        return list(self._gaps)

    @property
    def furthest(self) -> int:
        """The highest sequence that is believed."""
        return max([self._awaited - 1, *self._held])

    @property
    def held_bytes(self) -> int:
        """Size of all that has not had its outcome."""
        return sum(held.size_bytes for held in self._all())

    def held_items(self) -> list[T]:
        """Items without an outcome, in sequence order."""
        return [held.item for held in sorted(self._all(), key=lambda held: held.sequence)]

    def push(self, sequence: int, item: T, now_s: float) -> list[Outcome[T]]:
        """Take one item; return all that is settled by it."""
        return [*self.put(sequence, item, now_s), *self._turns()]

    def tick(self, now_s: float) -> list[Outcome[T]]:
        """Give up what has been waited for long enough; return all that is settled by it."""
        return [*self.expire(now_s), *self._turns()]

    def put(self, sequence: int, item: T, now_s: float, size_bytes: int = 0) -> list[Outcome[T]]:
        """Take one item; return those that will have no turn."""
        held = _Held(sequence, item, now_s, size_bytes)
        if sequence in self._held:
            return [Duplicate(item)]
        if self._gap_at(sequence) is not None:
            return [Late(item)]
        if sequence < self.next_sequence:
            return [Duplicate(item)]
        if sequence > self.furthest + self._max_jump:
            far, self._far = self._far, held
            if far is None:
                return []
            if far.sequence == sequence or abs(far.sequence - sequence) > self._max_jump:
                return [Far(far.item)]
            self._held[far.sequence], self._far = far, None
        self._held[sequence] = held
        self._awaited = self._after_known(self._awaited)
        while self._overfull(self._waiting()):
            self._give_up()
        return []

    def expire(self, now_s: float) -> list[Outcome[T]]:
        """Give up what has been waited for long enough; return items that will have no turn."""
        while (deadline_s := self.next_deadline_s) is not None and now_s >= deadline_s:
            self._give_up()
        if self._far is not None and now_s >= self._far.arrived_s + self._jump_wait_s:
            return self._drop_far()
        return []

    def give_up_all(self) -> list[Outcome[T]]:
        """Wait no longer for anything; return items that will have no turn."""
        while self._waiting():
            self._give_up()
        return self._drop_far()

    def next_turn(self) -> Outcome[T] | None:
        """The next item in order, or what is missing before it; None when it has to be waited for."""
        held = self._held.pop(self.next_sequence, None)
        if held is not None:
            self.next_sequence += 1
            return InOrder(held.item)
        gap = self._gap_at(self.next_sequence) if self._held else None
        if gap is None:
            return None
        missing = Missing(self.next_sequence, gap[1])
        self.next_sequence = gap[1] + 1
        self._forget_past_gaps()
        return missing

    def drain(self) -> list[T]:
        """Take out all items without an outcome, in sequence order: there will be no more turns."""
        items = self.held_items()
        self._held.clear()
        self._far = None
        self._awaited = self._after_known(self.next_sequence)
        return items

    def _turns(self) -> list[Outcome[T]]:
        turns: list[Outcome[T]] = []
        while (turn := self.next_turn()) is not None:
            turns.append(turn)
        return turns

    def _all(self) -> list[_Held[T]]:
        return [*self._held.values(), *([self._far] if self._far else [])]

    def _waiting(self) -> list[_Held[T]]:
        """Items that wait for earlier ones, in order of arrival."""
        return [held for held in self._held.values() if held.sequence > self._awaited]

    def _overfull(self, waiting: list[_Held[T]]) -> bool:
        too_large = sum(held.size_bytes for held in waiting) > self._max_held_bytes
        return bool(waiting) and (len(waiting) >= self._max_held or too_large)

    def _give_up(self) -> None:
        """Give up the numbers before the next one that is there, or that had been given up: gaps never overlap."""
        end = min(held.sequence for held in self._waiting())
        at = bisect_right(self._gaps, (self._awaited, 1 << 62))
        if at < len(self._gaps):
            end = min(end, self._gaps[at][0])
        insort(self._gaps, (self._awaited, end - 1))
        self._awaited = self._after_known(self._awaited)

    def _forget_past_gaps(self) -> None:
        """Late rather than Duplicate is the safe mistake about what came long ago: it is kept as a dead letter."""
        past = bisect_left(self._gaps, (self.next_sequence, 0))
        if past > self._max_past_gaps:
            del self._gaps[: past - self._max_past_gaps - 1]
            self._gaps[0] = (0, self._gaps[0][1])

    def _drop_far(self) -> list[Outcome[T]]:
        far, self._far = self._far, None
        return [] if far is None else [Far(far.item)]

    def _after_known(self, sequence: int) -> int:
        while True:
            gap = self._gap_at(sequence)
            if gap is not None:
                sequence = gap[1] + 1
            elif sequence in self._held:
                sequence += 1
            else:
                return sequence

    def _gap_at(self, sequence: int) -> tuple[int, int] | None:
        at = bisect_right(self._gaps, (sequence, 1 << 62)) - 1
        return self._gaps[at] if at >= 0 and self._gaps[at][1] >= sequence else None
