"""A figure and how sure it is: what every evaluation yields, whatever it measures.

In: what was counted, item by item. Out: `Measure`s with a value and a 95 % interval, and the difference of two. Knows
no model and no audio. Invariant: a value is computed from its items alone, so two people with the same items print the
same figure; intervals come from a fixed seed.

Intervals are percentiles of a bootstrap over items (utterances, not words: words of an utterance err together). A
bootstrap knows nothing of what never happened, so shares of items have Wilson's interval, and of events that were not
seen at all the upper end is the rate that would have shown none once in forty times (Poisson). Two checkpoints that
were measured on the same items are compared in pairs: the same items are drawn for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
Z = 1.959964  # of a 95 % interval
SEED = 20_260_213
Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """`sum(tops) / sum(bottoms) · scale`; without bottoms the median of `tops`, times `scale`.

    `note` says what a reader has to know: that the audio was trained on, say.
    """

    name: str
    unit: str
    better: Better
    tops: tuple[float, ...]
    bottoms: tuple[float, ...] | None
    scale: float = 100.0
    note: str = ""

    @property
    def items(self) -> int:
        return len(self.tops)

    def interval(self) -> Interval:
        """The value and where it may lie. NaN without items."""
        if not self.items:
            return Interval(float("nan"), float("nan"), float("nan"))
        value = float(self._at(np.ones((1, self.items), np.int64))[0])
        if self.bottoms is not None and set(self.bottoms) == {1.0} and set(self.tops) <= {0.0, 1.0}:
            return self._wilson(value)
        if self.bottoms is not None and not any(self.tops) and sum(self.bottoms) > 0:
            return Interval(value, 0.0, self.scale * -math.log(0.025) / sum(self.bottoms))
        return _interval(value, self._at(_draws(self.items)))

    def minus(self, other: Measure) -> Interval | None:
        """This value minus another's, in pairs; None unless both are of the same items."""
        if not self.items or self.items != other.items or self.bottoms != other.bottoms:
            return None
        draws, whole = _draws(self.items), np.ones((1, self.items), np.int64)
        value = self._at(whole)[0] - other._at(whole)[0]
        return _interval(value, self._at(draws) - other._at(draws))

    def _wilson(self, value: float) -> Interval:
        """Of a share of items (E. B. Wilson, 1927)."""
        count, p = self.items, value / self.scale
        middle = (p + Z * Z / (2 * count)) / (1 + Z * Z / count)
        half = Z * math.sqrt(p * (1 - p) / count + (Z / (2 * count)) ** 2) / (1 + Z * Z / count)
        return Interval(value, self.scale * max(0.0, middle - half), self.scale * min(1.0, middle + half))

    def _at(self, draws_RN: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The value for each row of how often each item was drawn."""
        tops = np.asarray(self.tops, np.float64)
        if self.bottoms is None:
            return self.scale * np.asarray([np.median(np.repeat(tops, draws)) for draws in draws_RN])
        below = draws_RN @ np.asarray(self.bottoms, np.float64)
        shares = np.full(len(below), np.nan)
        np.divide(draws_RN @ tops, below, out=shares, where=below > 0)
        return self.scale * shares


def share(name: str, right: Sequence[bool], better: Better = "higher", note: str = "") -> Measure:
    """The share of items that were right (or, with better="lower", wrong), in per cent."""
    return Measure(name, "%", better, tuple(float(one) for one in right), (1.0,) * len(right), note=note)


def _draws(items: int) -> npt.NDArray[np.int64]:
    """`[RESAMPLES, items]`: how often each item is drawn, as often as there are items."""
    rng = np.random.default_rng([SEED, items])
    return rng.multinomial(items, np.full(items, 1 / items), RESAMPLES).astype(np.int64)


def _interval(value: float, drawn: npt.NDArray[np.float64]) -> Interval:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(value), float(low), float(high))
