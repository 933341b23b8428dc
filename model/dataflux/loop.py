"""The closed loop: caption and category, questions, answers by several models, verdict; clip by clip.

In: clips, a team, a journal. Out: a journal with every step in it. Knows no endpoint and no checkpoint. Invariants: a
step that is in the journal is not done again; a reply that is not usable is asked for again a bounded number of times
and then counted as discarded; a clip whose endpoint cannot be reached is left for the next run, and after several in a
row the run ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from model.dataflux.errors import Unreachable, Unusable
from model.dataflux.items import drawn, placed
from model.dataflux.journal import END, Journal
from model.dataflux.roles import Team
from model.dataflux.values import (
    Answer,
    Caption,
    Clip,
    Item,
    Material,
    Origin,
    Verdict,
    Written,
    model_name,
    plain,
    restored,
)

T = TypeVar("T")
Step = Callable[[Unusable | None], Awaitable[T]]
Keep = Callable[[Clip, Material], Origin]
CLIP = "clip"


@dataclass(frozen=True)
class Limits:
    """`attempts` per reply; `parallel` clips at a time; so many unreachable ones in a row end the run."""

    attempts: int = 3
    parallel: int = 4
    most_unreachable: int = 5
    seed: int = 0


@dataclass
class Progress:
    """What this call did: clips finished, left for the next run, and found finished."""

    finished: int = 0
    left: int = 0
    known: int = 0
    why_left: set[str] = field(default_factory=set)


class Discarded(Exception):
    """A step of this clip came to nothing, now or in an earlier run; the journal says why."""


async def run(
    clips: Iterable[Clip],
    team: Team,
    journal: Journal,
    limits: Limits,
    keep: Keep,
    progress: Progress,
    tell: Callable[[Clip], None] = lambda clip: None,
) -> None:
    """Take every clip through the loop, counting in `progress`; `keep` says where a clip's audio lies for training.

    Raises Misconfigured, and Unreachable after several clips in a row.
    """
    waiting, gone = iter(clips), 0

    async def work() -> None:
        nonlocal gone
        for clip in waiting:  # shared: each worker takes the next one
            if journal.finished(clip.name):
                progress.known += 1
                continue
            try:
                await _Clip(clip, team, journal, limits, keep).through()
            except Unreachable as error:
                progress.left += 1
                progress.why_left.add(str(error))
                gone += 1
                if gone >= limits.most_unreachable:
                    raise
            else:
                gone = 0
                progress.finished += 1
                tell(clip)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limits.parallel):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise _first(errors) from None


class _Clip:
    """One clip on its way."""

    def __init__(self, clip: Clip, team: Team, journal: Journal, limits: Limits, keep: Keep) -> None:
        self._clip = clip
        self._team = team
        self._journal = journal
        self._limits = limits
        self._keep = keep

    async def through(self) -> None:
        clip, team = self._clip, self._team
        try:
            material = await asyncio.to_thread(clip.load)
            if self._journal.find(clip.name, CLIP) is None:
                self._journal.note(clip.name, CLIP, value=plain(self._keep(clip, material)))
            caption = await self._step(
                "caption", Caption, lambda again: team.captioner.describe(clip, material, again)
            )
            category = await self._step(
                "category", str, lambda again: team.writer.check(clip, caption, again)
            )
            written = await self._step("items", Written, lambda again: self._write(caption, category, again))
        except Unusable as error:  # of the audio itself
            self._journal.note(clip.name, "audio", discarded=error.reason)
        except Discarded:
            pass
        else:
            for number, item in enumerate(written.items):
                await self._judge(material, caption, number, item)
        self._journal.note(clip.name, END)

    async def _write(self, caption: Caption, category: str, again: Unusable | None) -> Written:
        written = await self._team.writer.write(self._clip, caption, category, again)
        seed, name = self._limits.seed, self._clip.name
        items = tuple(placed(item, name, number, seed) for number, item in enumerate(written.items))
        return Written(items, written.rejected)

    async def _judge(self, material: Material, caption: Caption, number: int, item: Item) -> None:
        """Answers of all models that have one, then the verdict on them."""
        names = list(self._team.answerers)
        found = await asyncio.gather(*(self._answer(material, number, item, name) for name in names))
        given = {
            name: one
            for name, one in zip(names, found, strict=True)
            if one is not None and one.choice is not None
        }
        if len(given) < 2:
            return
        # A judge may favour whom it reads first, so each has that place as often as the others.
        order = drawn(list(given), self._clip.name, number, self._limits.seed)
        models = {model_name(index): name for index, name in enumerate(order)}
        answers = {model: given[name] for model, name in models.items()}
        judge = self._team.judge
        with suppress(Discarded):
            await self._step(
                f"verdict/{number}",
                Verdict,
                lambda again: judge.judge(caption, item, answers, again),
                models=models,
            )

    async def _answer(self, material: Material, number: int, item: Item, name: str) -> Answer | None:
        answerer = self._team.answerers[name]
        try:
            return await self._step(
                f"answer/{number}/{name}",
                Answer,
                lambda again: answerer.answer(self._clip, material, item, again),
            )
        except Discarded:
            return None

    async def _step(self, step: str, kind: type[T], call: Step[T], **beside: Any) -> T:
        """The value of a step, from the journal or from the one who makes it; `beside` is noted with it.

        Raises Discarded.
        """
        known = self._journal.find(self._clip.name, step)
        if known is not None:
            if "discarded" in known:
                raise Discarded(known["discarded"])
            return restored(kind, known["value"])
        reasons: list[str] = []
        again: Unusable | None = None
        for _ in range(self._limits.attempts):
            try:
                value = await call(again)
            except Unusable as error:
                reasons.append(error.reason)
                again = error
                if not error.again:
                    break
            else:
                self._journal.note(self._clip.name, step, value=plain(value), **beside, **_more(reasons))
                return value
        self._journal.note(self._clip.name, step, discarded=reasons[-1], **_more(reasons))
        raise Discarded(reasons[-1])


def _more(reasons: list[str]) -> dict[str, Any]:
    """The replies that could not be used before this one."""
    return {"unusable": reasons} if reasons else {}


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    def flat(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
        for one in group.exceptions:
            if isinstance(one, BaseExceptionGroup):
                yield from flat(one)
            else:
                yield one

    return next(flat(errors))
