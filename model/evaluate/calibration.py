"""Are confidences what they say? Of what is called 80 % sure, 80 % should be right.

In: confidences and whether each was right. Out: bins for a reliability diagram, the expected calibration error and the
area under the ROC curve. Knows no model. Invariant: every pair is in exactly one bin.

Expected calibration error: arXiv 1706.04599, equation 3: `Σ_b n_b / n · |accuracy_b − confidence_b|` over ten bins of
equal width. A confidence may order right before wrong (area 1) and still be badly calibrated: both are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Confidences of (low, high]: how many, their mean, and the share that was right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """`ece` and `confidence − accuracy` are fractions; `auc` is None where all are right or all wrong."""

    what: str
    count: int
    confidence: float
    accuracy: float
    ece: float
    auc: float | None
    bins: tuple[Bin, ...]


def reliability(what: str, pairs: Sequence[tuple[float, bool]]) -> Reliability:
    """Bins of (confidence, right). Raises ValueError without a pair or for a confidence outside 0 … 1."""
    if not pairs:
        raise ValueError(f"{what}: no confidence was given")
    sure = np.asarray([confidence for confidence, _ in pairs], np.float64)
    right = np.asarray([good for _, good in pairs], bool)
    if not bool(((sure >= 0) & (sure <= 1)).all()):
        raise ValueError(f"{what}: a confidence outside 0 … 1")
    place = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)
    bins = []
    for number in range(BINS):
        here = place == number
        if count := int(here.sum()):
            bins.append(
                Bin(
                    number / BINS,
                    (number + 1) / BINS,
                    count,
                    float(sure[here].mean()),
                    float(right[here].mean()),
                )
            )
    ece = sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / len(pairs)
    return Reliability(
        what, len(pairs), float(sure.mean()), float(right.mean()), ece, _area(sure, right), tuple(bins)
    )


def _area(sure: np.ndarray, right: np.ndarray) -> float | None:
    """The chance that a right one is surer than a wrong one; ties count half."""
    good, bad = np.sort(sure[right]), np.sort(sure[~right])
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(bad, good, "left").sum()
    level = (np.searchsorted(bad, good, "right") - np.searchsorted(bad, good, "left")).sum()
    return float((below + level / 2) / (len(good) * len(bad)))
