"""Is a caption good enough to answer questions about the audio it was written of?

In: captions, multiple-choice items, and a judge that reads. Out: the judge's choice for each item. Knows neither engine
nor HTTP: the judge is an open `Chat`. Invariant: the judge sees caption, question and choices, never the audio, the key
or the file's name; a reply without a letter is asked for once more, and then counts as wrong.

The dense-caption evaluation of arXiv 2602.13954: caption → question answering on MMAU and MMAR.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from model.dataflux.chat import Chat
from model.dataflux.errors import Unusable
from model.evaluate.choices import Item

ATTEMPTS = 2
PROMPT = """A recording was described as follows.

Description: {caption}

Answer a question about the recording from the description alone. If the description does not tell, choose what it makes
most likely.

Question: {question}
{choices}

Reply with the letter of one choice and nothing else."""


def prompt(caption: str, item: Item) -> str:
    """What the judge is sent."""
    choices = "\n".join(f"{chr(ord('A') + index)}. {choice}" for index, choice in enumerate(item.choices))
    return PROMPT.format(caption=caption or "(nothing)", question=item.question, choices=choices)


async def chosen(
    chat: Chat, captions: Sequence[str], items: Sequence[Item], parallel: int
) -> list[int | None]:
    """The judge's choice for each item; None where it made none. Raises Unreachable, Misconfigured."""
    gate = asyncio.Semaphore(parallel)

    async def one(caption: str, item: Item) -> int | None:
        async with gate:
            return await _ask(chat, prompt(caption, item), len(item.choices))

    return list(await asyncio.gather(*(one(text, item) for text, item in zip(captions, items, strict=True))))


async def _ask(chat: Chat, text: str, count: int) -> int | None:
    again: Unusable | None = None
    for _ in range(ATTEMPTS):
        try:
            reply = await chat.ask(text, None, again)
        except Unusable as error:
            if not error.again:
                return None
            again = error
            continue
        letter = reply.strip().strip("().*\"' ").partition(".")[0].strip()
        if len(letter) == 1 and 0 <= ord(letter.upper()) - ord("A") < count:
            return ord(letter.upper()) - ord("A")
        again = Unusable("schema", "one letter is wanted", reply=reply)
    return None
