"""Which windows of production are worth a look: the model was not sure, or its witnesses did not agree.

In: what is stored of a window: text, confidence, the CTC confidences of its words, its texts by other models. Out: the
reasons, none for a window that nobody doubts. Knows no database. Invariant: a pure function of what is stored.

What the store keeps of "CTC against decoder": the confidence of a transcript is the joint one per token
(`λ·log P_ctc + (1 − λ)·log P_decoder`, model.transcript), that of a word the CTC head's alone. Where the two lie far
apart, the decoder finds the words much less likely (or more) than the CTC head does. (Measured with nano on the 82 of
100 Asterisk test prompts in which it heard words: 83 % of the words wrong where the confidence is below 0.5, 13 % in
the others; 52 % where the two are a factor of 1.3 apart, 11 % in the others.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 1e-4  # confidences have four digits
FAR_APART = 1.3  # by this factor, either way


@dataclass(frozen=True)
class Seen:
    """A window as it is stored. `words`: CTC confidences where word times come from CTC, else empty."""

    text: str
    confidence: float | None
    words: tuple[float, ...] = ()
    others: tuple[str, ...] = ()  # what other runs over the same samples said


def reasons(seen: Seen, below: float) -> list[str]:
    """`low_confidence`, `witnesses_differ`, `runs_differ`; in this order."""
    found = []
    if seen.text and seen.confidence is not None and seen.confidence < below:
        found.append("low_confidence")
    heard = heard_confidence(seen.words)
    if seen.text and seen.confidence is not None and heard is not None:
        apart = math.log(max(heard, LEAST)) - math.log(max(seen.confidence, LEAST))
        if abs(apart) >= math.log(FAR_APART):
            found.append("witnesses_differ")
    if any(_words(other) != _words(seen.text) for other in seen.others):
        found.append("runs_differ")
    return found


def heard_confidence(words: Sequence[float]) -> float | None:
    """The geometric mean of the CTC confidences; None without words."""
    if not words:
        return None
    return math.exp(sum(math.log(max(word, LEAST)) for word in words) / len(words))


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()
