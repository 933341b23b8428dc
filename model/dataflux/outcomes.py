"""What became of every clip and of every question, as the journal tells it.

In: the steps of a journal. Out: outcomes. Knows no model and no file. Invariant: a pure function of the journal, so a
run that was stopped and went on gives the same outcomes as one that was not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.dataflux.journal import END
from model.dataflux.loop import CLIP
from model.dataflux.replies import chosen
from model.dataflux.values import (
    NONE,
    Answer,
    Caption,
    Item,
    Origin,
    Verdict,
    Written,
    restored,
)

KEPT = "kept"
CLIP_STEPS = ("audio", "caption", "category", "items")  # where a whole clip may end


@dataclass(frozen=True)
class Outcome:
    """One question. `winner`: an answerer, TIE or NONE; `fate`: KEPT or why not; `choice`: the winner's option;
    `hard`: a single model was right."""

    clip: str
    number: int
    item: Item
    answers: dict[str, Answer | None]
    verdict: Verdict | None
    winner: str | None
    fate: str
    choice: int | None
    hard: bool

    @property
    def kept(self) -> bool:
        return self.fate == KEPT


@dataclass(frozen=True)
class ClipOutcome:
    """One clip. `discarded` is `step: reason`, None for a clip that got as far as questions."""

    name: str
    origin: Origin | None
    discarded: str | None
    caption: Caption | None = None
    category: str | None = None
    rejected: dict[str, int] = field(default_factory=dict)
    items: tuple[Outcome, ...] = ()


def outcomes(lines: Iterable[Mapping[str, Any]], answerers: Sequence[str]) -> list[ClipOutcome]:
    """The clips that are finished, by name: the order in which they were done depends on the models' pace."""
    steps: dict[str, dict[str, Mapping[str, Any]]] = {}
    for line in lines:
        steps.setdefault(line["clip"], {})[line["step"]] = line
    return [_clip(name, of, answerers) for name, of in sorted(steps.items()) if END in of]


def _clip(name: str, steps: Mapping[str, Mapping[str, Any]], answerers: Sequence[str]) -> ClipOutcome:
    origin = restored(Origin, steps[CLIP]["value"]) if CLIP in steps else None
    for step in CLIP_STEPS:
        if "discarded" in steps.get(step, {}):
            return ClipOutcome(name, origin, f"{step}: {steps[step]['discarded']}")
    written = restored(Written, steps["items"]["value"])
    return ClipOutcome(
        name,
        origin,
        None,
        restored(Caption, steps["caption"]["value"]),
        steps["category"]["value"],
        written.rejected,
        tuple(_outcome(name, number, item, steps, answerers) for number, item in enumerate(written.items)),
    )


def _outcome(
    clip: str, number: int, item: Item, steps: Mapping[str, Mapping[str, Any]], answerers: Sequence[str]
) -> Outcome:
    answers: dict[str, Answer | None] = {}
    for name in answerers:
        value = steps.get(f"answer/{number}/{name}", {}).get("value")
        answers[name] = None if value is None else restored(Answer, value)
    given = {name: one for name, one in answers.items() if one is not None and one.choice is not None}
    step = steps.get(f"verdict/{number}", {})
    models: dict[str, str] = step.get("models", {})
    verdict = restored(Verdict, step["value"]) if "value" in step else None
    choice = None
    if verdict is not None:
        choice = chosen(verdict, {model: given[name] for model, name in models.items()})
    return Outcome(
        clip,
        number,
        item,
        answers,
        verdict,
        None if verdict is None else models.get(verdict.winner, verdict.winner),
        _fate(item, verdict, choice, step.get("discarded")),
        choice,
        hard=sum(one.choice == item.key for one in given.values()) == 1,
    )


def _fate(item: Item, verdict: Verdict | None, choice: int | None, unusable: str | None) -> str:
    if verdict is None:
        return "too few answers" if unusable is None else f"no verdict: {unusable}"
    if verdict.final_action == "DISCARD":
        if verdict.winner == NONE:
            return "no model right"
        conflict = verdict.consistency_with_caption == "CONFLICT"
        return "against the caption" if conflict else "discarded by the judge"
    # The judge has not seen the key: where the two disagree, one of them is wrong, and nobody knows which.
    return KEPT if choice == item.key else "judge and key disagree"
