"""What an engine process must do before it gets a window: answer a second of silence, without a word.

In: a process that is warm. Out: nothing, or `StartFailed`. Knows no checkpoint. Cheap enough for every start; what a
checkpoint is worth is measured before it is promoted (`eureka checkpoint compare`). Invariant: what the model said is
counted and never told.
"""

from __future__ import annotations

import asyncio

import numpy as np

from model.answers import TextAnswer
from workers.engine_process import Ask, EngineProcess, StartFailed, describe
from workers.scheduler import SAMPLE_RATE


async def self_test(process: EngineProcess, news: asyncio.Event) -> None:
    """`news` is set whenever the process has something to tell. How long it may take is `workers.vigil`'s to say.

    Raises StartFailed: the process died, refused the silence, or heard words in it.
    """
    process.submit([Ask("self-test", np.zeros(SAMPLE_RATE, np.int16), ("transcript",), 0.0)])
    while not (responses := process.collect()):
        if process.lost.done():
            raise StartFailed(f"self test: {describe(process.lost.result(), process.exit_status)}")
        news.clear()
        await news.wait()
    (response,) = responses
    if response.error is not None:
        raise StartFailed(f"self test: silence was refused: {response.error}")
    words = sum(len(answer.text.split()) for answer in response.answers if isinstance(answer, TextAnswer))
    if words:
        raise StartFailed(f"self test: {words} words were heard in silence")
