"""Which answer is given for which truth: confusion matrices of the checkpoint's closed questions.

In: an engine, audio with known answers. Out: a `Confusion` for each question that both know. Knows no corpus.
Invariant: every labelled item is in exactly one cell; a label that is no choice of the question is an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.answers import ChoiceAnswer, Request
from model.engine import Engine
from model.evaluate.measures import Measure, share

TOGETHER = 32


@dataclass(frozen=True)
class Labelled:
    """int16 audio at 16 kHz, at most 30 s; `labels` are question → truth."""

    audio: npt.NDArray[np.int16]
    labels: dict[str, str]


@dataclass(frozen=True)
class Confusion:
    """`counts[i][j]`: items of truth `rows[i]` that were called `columns[j]`. `right`: item by item."""

    question: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    right: tuple[bool, ...]
    sure: tuple[float, ...]

    @property
    def majority(self) -> float:
        """What always naming the commonest truth would have scored."""
        totals = [sum(row) for row in self.counts]
        return max(totals) / sum(totals)

    def accuracy(self, name: str, note: str = "") -> Measure:
        most = f"always the commonest answer: {100 * self.majority:.0f} %"
        return share(name, self.right, note=f"{most}; {note}" if note else most)


def confusions(engine: Engine, items: Iterable[Labelled]) -> list[Confusion]:
    """Of every question of the checkpoint that some item has a label for, in the checkpoint's order."""
    names = {question.name: question.choices for question in engine.questions}
    seen: dict[str, list[tuple[str, ChoiceAnswer]]] = {name: [] for name in names}
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, TOGETHER)):
        asked = [[name for name in names if name in item.labels] for item in batch]
        requests = [
            Request("", item.audio, tuple(f"question:{name}" for name in some))
            for item, some in zip(batch, asked, strict=True)
        ]
        for item, response in zip(batch, engine.run(requests), strict=True):
            if response.error is not None:
                raise ValueError(response.error)
            for answer in response.answers:
                assert isinstance(answer, ChoiceAnswer)
                seen[answer.question].append((item.labels[answer.question], answer))
    return [_confusion(name, names[name], pairs) for name, pairs in seen.items() if pairs]


def _confusion(name: str, choices: tuple[str, ...], pairs: list[tuple[str, ChoiceAnswer]]) -> Confusion:
    strange = sorted({truth for truth, _ in pairs} - set(choices))
    if strange:
        raise ValueError(f"question {name} has no choice {', '.join(strange)}")
    counts = [[0] * len(choices) for _ in choices]
    for truth, answer in pairs:
        counts[choices.index(truth)][choices.index(answer.label)] += 1
    return Confusion(
        name,
        choices,
        choices,
        tuple(map(tuple, counts)),
        tuple(truth == answer.label for truth, answer in pairs),
        tuple(answer.probabilities[answer.label] for _, answer in pairs),
    )
