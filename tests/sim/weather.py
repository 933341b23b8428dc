"""Seeded misfortune of one simulated world: how a call to a dependency goes, and when dependencies are away.

In: the virtual time and the kind of call. Out: `Luck`, drawn at once for the whole call, so that cancelling it changes
no later draw. Invariant: the same seed and the same calls give the same luck; once it is `calm`, all goes well.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

How = Literal["well", "refused", "answer lost", "caller dies before", "caller dies after"]


@dataclass(frozen=True, slots=True)
class Luck:
    """How one call goes: it travels for `there_s`, is served or not, and its answer travels for `back_s`."""

    there_s: float
    back_s: float
    how: How
    part: float = 1.0  # of a list of messages, how much arrived before it went wrong


@dataclass
class Weather:
    """Probabilities per call, different for every seed, and outages as (from, to) in virtual seconds."""

    rng: random.Random
    now_s: Callable[[], float]
    calm: bool = False
    away_until_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        storm = self.rng.choice([0.0, 0.3, 1.0, 2.0])
        self.dies = 0.004 * storm
        self.refused = 0.02 * storm
        self.lost = 0.02 * storm
        self.slow = 0.03 * storm
        self.most_slow_s = self.rng.choice([1.0, 4.0])

    def away(self, dependency: str) -> bool:
        """Whether a dependency answers nobody now."""
        return not self.calm and self.now_s() < self.away_until_s.get(dependency, 0.0)

    def draw(self) -> Luck:
        """The luck of the next call."""
        rng = self.rng
        there_s, back_s, part, fate = (
            rng.uniform(0.0005, 0.02),
            rng.uniform(0, 0.02),
            rng.random(),
            rng.random(),
        )
        if rng.random() < self.slow:
            there_s += rng.uniform(0, self.most_slow_s)
        if rng.random() < self.slow:
            back_s += rng.uniform(0, self.most_slow_s)
        if self.calm:
            return Luck(0.002, 0.002, "well")
        return Luck(there_s, back_s, self._how(fate), part)

    def _how(self, fate: float) -> How:
        bounds: list[tuple[float, How]] = [
            (self.dies, "caller dies before"),
            (self.dies, "caller dies after"),
            (self.refused, "refused"),
            (self.lost, "answer lost"),
        ]
        for share, how in bounds:
            if fate < share:
                return how
            fate -= share
        return "well"
