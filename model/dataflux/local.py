"""The roles filled without a network: truth of made scenes, and a judge that goes by rules.

In: made scenes with their facts. Out: captions, items, verdicts. Knows no checkpoint (those answer in
`model.dataflux.witnesses`). Invariant: nothing here is guessed: a clip whose facts are not known is refused.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from model.dataflux import aspects
from model.dataflux.errors import Unusable
from model.dataflux.values import (
    LETTERS,
    NONE,
    TIE,
    Answer,
    Caption,
    Clip,
    Item,
    Material,
    Verdict,
    Written,
)


@dataclass(frozen=True)
class TruthCaptioner:
    """Gives the caption that a scene was made with."""

    async def describe(self, clip: Clip, material: Material, again: Unusable | None) -> Caption:
        """Raises Unusable(no_truth) for audio whose make-up is not known."""
        return _known(material.truth)


@dataclass(frozen=True)
class FactsWriter:
    """Asks for what is known of a scene, at most `count` aspects, drawn by clip and `seed`.

    `only`: no others, as nobody could answer; None: any.
    """

    count: int
    seed: int
    only: frozenset[str] | None = None

    async def check(self, clip: Clip, caption: Caption, again: Unusable | None) -> str:
        """The category of the scene's first fact; one that it was filed under must be among those of its facts."""
        facts = _known(caption).facts or {}
        found = [aspects.ASPECTS[name].category for name in self._askable(facts)]
        if not found:
            raise Unusable("no_category", again=False)
        if clip.category is None:
            return found[0]
        if clip.category not in found:
            raise Unusable("category_mismatch", again=False)
        return clip.category

    async def write(self, clip: Clip, caption: Caption, category: str, again: Unusable | None) -> Written:
        """An item for each aspect, the one of the category first."""
        facts = _known(caption).facts or {}
        rng = random.Random(f"{self.seed}/{clip.name}")
        names = self._askable(facts)
        rng.shuffle(names)
        names.sort(key=lambda name: aspects.ASPECTS[name].category != category)
        return Written(tuple(aspects.item(name, facts[name], rng) for name in names[: self.count]))

    def _askable(self, facts: Mapping[str, str]) -> list[str]:
        return [name for name in aspects.askable(facts) if self.only is None or name in self.only]


@dataclass(frozen=True)
class FactsJudge:
    """Holds every answer against the facts of the caption; it does not look at the item's key."""

    async def judge(
        self, caption: Caption, item: Item, answers: Mapping[str, Answer], again: Unusable | None
    ) -> Verdict:
        """Right is who chose the one option that means what the caption says. Raises Unusable(no_truth)."""
        facts = _known(caption).facts or {}
        if item.aspect not in facts or item.values is None:
            raise Unusable("no_truth", again=False)
        truth = facts[item.aspect]
        right = [
            name
            for name, one in answers.items()
            if one.choice is not None and item.values[one.choice] == truth
        ]
        consensus = len({one.choice for one in answers.values()}) == 1
        if not right:
            said = ", ".join(f"{name} {LETTERS[one.choice or 0]}" for name, one in answers.items())
            return Verdict(
                consensus, "CONFLICT", NONE, f"{item.aspect} is {truth}; chosen: {said}", "DISCARD"
            )
        winner = right[0] if len(right) == 1 else TIE
        reason = f"{item.aspect} is {truth}; right: {', '.join(right)}"
        return Verdict(consensus, "STRONG_MATCH", winner, reason, "KEEP_USING_WINNER")


def _known(caption: Caption | None) -> Caption:
    if caption is None or caption.facts is None:
        raise Unusable("no_truth", again=False)
    return caption
