"""The four roles of the loop, and the team that fills them.

In and out: the values of `model.dataflux.values`. Knows neither endpoints nor checkpoints: `remote` and `local` fill
the roles. Invariants: an answerer goes by audio, question and options alone, a judge by caption, question, options,
answers and traces alone: the key takes part in neither. Every method may raise Unusable, and is then called again with
it as `again`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from model.dataflux.errors import Misconfigured, Unusable
from model.dataflux.values import MODELS, Answer, Caption, Clip, Item, Material, Verdict, Written


class Captioner(Protocol):
    """Describes a clip densely."""

    async def describe(self, clip: Clip, material: Material, again: Unusable | None) -> Caption: ...


class Writer(Protocol):
    """Checks that caption and category fit, and writes questions."""

    async def check(self, clip: Clip, caption: Caption, again: Unusable | None) -> str: ...
    async def write(self, clip: Clip, caption: Caption, category: str, again: Unusable | None) -> Written: ...


class Answerer(Protocol):
    """Listens and answers, with a trace."""

    async def answer(self, clip: Clip, material: Material, item: Item, again: Unusable | None) -> Answer: ...


class Judge(Protocol):
    """Compares caption, question, traces and answers (by MODEL_A, MODEL_B, …)."""

    async def judge(
        self, caption: Caption, item: Item, answers: Mapping[str, Answer], again: Unusable | None
    ) -> Verdict: ...


def enough(answerers: int) -> None:
    """Raises Misconfigured: two or more must answer, and no more than there are names for."""
    if not 2 <= answerers <= len(MODELS):
        raise Misconfigured(f"{answerers} answerers; it takes 2 to {len(MODELS)} different ones")


@dataclass(frozen=True)
class Team:
    """Who does what. `described`: each role in a few words for the report, without addresses and keys."""

    captioner: Captioner
    writer: Writer
    answerers: Mapping[str, Answerer]
    judge: Judge
    described: Mapping[str, str]
