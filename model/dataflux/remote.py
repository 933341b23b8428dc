"""The roles filled by models behind OpenAI-compatible endpoints.

In: an open `Chat` and the prompts. Out: the values of the roles. Knows no HTTP. Invariant: only captioner and answerers
are sent audio; only the writer's own reply says which option is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.dataflux import replies
from model.dataflux.chat import Chat
from model.dataflux.errors import Unusable
from model.dataflux.items import lines
from model.dataflux.prompts import Prompts
from model.dataflux.values import Answer, Caption, Clip, Item, Material, Verdict, Written


@dataclass(frozen=True)
class RemoteCaptioner:
    chat: Chat
    prompts: Prompts

    async def describe(self, clip: Clip, material: Material, again: Unusable | None) -> Caption:
        """What the model hears; a truth that is known is not told to it."""
        reply = await self.chat.ask(self.prompts.fill("caption"), material.audio, again)
        return Caption(replies.caption(reply))


@dataclass(frozen=True)
class RemoteWriter:
    chat: Chat
    prompts: Prompts
    count: int

    async def check(self, clip: Clip, caption: Caption, again: Unusable | None) -> str:
        """The category of the clip, where the caption bears it out."""
        declared = clip.category or "nothing"
        prompt = self.prompts.fill(
            "category", taxonomy=self.prompts.taxonomy, caption=caption.text, declared=declared
        )
        found = replies.category(await self.chat.ask(prompt, None, again), self.prompts.categories)
        if clip.category is not None and found != clip.category:
            raise Unusable("category_mismatch", again=False)
        return found

    async def write(self, clip: Clip, caption: Caption, category: str, again: Unusable | None) -> Written:
        """Up to `count` items."""
        prompt = self.prompts.fill(
            "questions",
            taxonomy=self.prompts.taxonomy,
            caption=caption.text,
            category=category,
            count=str(self.count),
        )
        return replies.items(await self.chat.ask(prompt, None, again), self.prompts.categories, self.count)


@dataclass(frozen=True)
class RemoteAnswerer:
    chat: Chat
    prompts: Prompts

    async def answer(self, clip: Clip, material: Material, item: Item, again: Unusable | None) -> Answer:
        """A letter and a trace, from the audio and the question alone."""
        prompt = self.prompts.fill("answer", question=item.text, options=lines(item))
        return replies.answer(await self.chat.ask(prompt, material.audio, again), len(item.options))


@dataclass(frozen=True)
class RemoteJudge:
    chat: Chat
    prompts: Prompts

    async def judge(
        self, caption: Caption, item: Item, answers: Mapping[str, Answer], again: Unusable | None
    ) -> Verdict:
        """A verdict, from the words of caption, question, answers and traces."""
        prompt = self.prompts.fill(
            "judge",
            caption=caption.text,
            question=item.text,
            options=lines(item),
            answers=replies.told(dict(answers)),
            models=", ".join(answers),
            winners=" | ".join((*answers, "TIE", "NONE")),
        )
        return replies.verdict(await self.chat.ask(prompt, None, again), dict(answers))
