"""Is the worker standing still? Judged by what waits and whether anything moves.

In: a `Pulse` now and then, with the time. Out: nothing, or `Stalled` with what waited. Pure: knows no clock, no Kafka,
no pipeline. Policy: time counts against the worker only while work waits and nothing at all moves. Nothing waits in an
idle worker. A dependency that refuses (a broker or database that is away and is tried again) counts as a move: being
away never ends the process, not being answered at all does. So does a call that never returns, a consumer that
reads no more although its broker has records or reads the same ones again and again, a rebalance without end.
Invariant: time in which nobody looked (a process that was stopped, a machine that slept) counts as one look.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

LONGEST_LOOK_S = 5.0  # what one look may count for


class Stalled(RuntimeError):
    """Work waits and nothing has moved for too long: only a new process helps."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One look: `moves` differs from the last one's when anything has got on; `work` says what waits, for people."""

    moves: Hashable
    work: tuple[str, ...] = ()


class Watchdog:
    """Adds up the time of a standstill. Pure."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.stalled_s = 0.0
        self._moves: Hashable = None
        self._looked_s: float | None = None

    def look(self, now_s: float, pulse: Pulse) -> None:
        """Judge one look. Raises Stalled."""
        since_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if not pulse.work or pulse.moves != self._moves:
            self._moves = pulse.moves
            self.stalled_s = 0.0
            return
        self.stalled_s += min(since_s, LONGEST_LOOK_S)
        if self.stalled_s >= self.limit_s:
            raise Stalled(f"nothing moved for {self.stalled_s:.0f} s: {'; '.join(pulse.work)}")
