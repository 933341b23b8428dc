"""In: items of one session with their sequence numbers, in the order Kafka has them, and the time as an argument.
Out: outcomes in sequence order. Knows no clock, no audio and no Kafka.

Invariant: every pushed item comes out exactly once, as InOrder, Duplicate or Late; InOrder sequences only rise, and
each number skipped lies in a Missing that came before. An item waits at most `max_wait_s` for earlier ones.
"""

from __future__ import annotations

from bisect import bisect_right, insort
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
class Missing:
    """Sequences `first` to `last`, both included, are given up."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    item: T
    arrived_s: float


Outcome = InOrder[T] | Duplicate[T] | Late[T] | Missing


class Orderer(Generic[T]):
    """Reorder buffer of one session.

    `gaps` are (first, last) ranges given up before a restart. Where reading again crosses one of them it is not waited
    for, and its Missing comes once more, so that what follows sees the same as the first time.
    """

    def __init__(
        self, next_sequence: int, max_wait_s: float, max_held: int, gaps: Iterable[tuple[int, int]] = ()
    ) -> None:
        if max_held < 1:
            raise ValueError("max_held must be at least 1")
        self.next_sequence = next_sequence
        self._max_wait_s = max_wait_s
        self._max_held = max_held
        self._gaps = sorted(gaps)
        self._held: dict[int, _Held[T]] = {}  # in order of arrival

    @property
    def next_deadline_s(self) -> float | None:
        """When `tick` will next give up waiting; None while nothing is held."""
        return self._oldest_s() + self._max_wait_s if self._held else None

    def held_items(self) -> list[T]:
        """Items waiting for earlier ones, in sequence order."""
        return [self._held[sequence].item for sequence in sorted(self._held)]

    def push(self, sequence: int, item: T, now_s: float) -> list[Outcome[T]]:
        """Take one item; return what is settled by it."""
        if sequence in self._held:
            return [Duplicate(item)]
        if self._gap_at(sequence) is not None:
            return [Late(item)]
        if sequence < self.next_sequence:
            return [Duplicate(item)]
        self._held[sequence] = _Held(item, now_s)
        outcomes = self._release()
        while len(self._held) >= self._max_held:
            outcomes += self._give_up()
        return outcomes

    def tick(self, now_s: float) -> list[Outcome[T]]:
        """Give up what has been waited for long enough."""
        outcomes: list[Outcome[T]] = []
        while self._held and now_s >= self._oldest_s() + self._max_wait_s:
            outcomes += self._give_up()
        return outcomes

    def _oldest_s(self) -> float:
        return next(iter(self._held.values())).arrived_s

    def _release(self) -> list[Outcome[T]]:
        outcomes: list[Outcome[T]] = []
        while self._held:
            held = self._held.pop(self.next_sequence, None)
            if held is not None:
                outcomes.append(InOrder(held.item))
                self.next_sequence += 1
                continue
            gap = self._gap_at(self.next_sequence)
            if gap is None:
                break
            outcomes.append(Missing(self.next_sequence, gap[1]))
            self.next_sequence = gap[1] + 1
        return outcomes

    def _give_up(self) -> list[Outcome[T]]:
        gap = (self.next_sequence, min(self._held) - 1)
        insort(self._gaps, gap)
        self.next_sequence = gap[1] + 1
        return [Missing(*gap), *self._release()]

    def _gap_at(self, sequence: int) -> tuple[int, int] | None:
        at = bisect_right(self._gaps, (sequence, 1 << 62)) - 1
        return self._gaps[at] if at >= 0 and self._gaps[at][1] >= sequence else None
