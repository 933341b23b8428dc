"""`eureka bench engine --against faster-whisper`: our side is engine processes of a thread each, as a worker runs them.

In: settings, a number of threads, references. Out: the report of `model.bench.peer`. It measures nothing itself.
Why processes: two Python threads wait for each other between the small steps of one model. On two cores two processes
did 65 s of audio per second where one process with two threads did 52. Files are read by this process, besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from model.answers import TextAnswer
from model.bench import peer
from model.evaluate import asr
from streams.errors import Unavailable
from streams.windows import Track, Window
from streams.wire import Origin, SessionKey
from workers.parts import pool_config
from workers.pool import EnginePool, Poison
from workers.settings import Settings


def run(settings: Settings, threads: int, references: Sequence[asr.Reference], weights: Path) -> peer.Report:
    """Both sides on `threads` threads. Raises `peer.Missing`, and ValueError when not every process comes up."""
    ours = settings.model_copy(update={"engine_processes": threads, "engine_threads": 1})
    with asyncio.Runner() as runner:
        pool = EnginePool(pool_config(ours))
        try:
            runner.run(_start(pool))
            return peer.run(lambda files: runner.run(_texts(pool, files)), references, weights, threads)
        except (Unavailable, Poison) as error:
            raise ValueError(str(error)) from None
        finally:
            runner.run(pool.close())


async def _start(pool: EnginePool) -> None:
    """`start` returns with the first process; a comparison wants all of them."""
    await pool.start()
    while any(device.state == "starting" for device in pool.health().devices):  # noqa: ASYNC110 - no event for it
        await asyncio.sleep(0.05)
    for device in pool.health().devices:
        if device.state not in ("idle", "busy"):
            raise Unavailable(f"an engine process did not start: {device.detail}")


async def _texts(pool: EnginePool, files: Sequence[Path]) -> list[str]:
    """Read each file and have it transcribed, the next one read while the processes are at work."""
    answers: list[asyncio.Task[str]] = []
    for path in files:
        answers.append(asyncio.create_task(_text(pool, _whole(path))))
        await asyncio.sleep(0)  # lets it be handed over
    return await asyncio.gather(*answers)


async def _text(pool: EnginePool, window: Window) -> str:
    analysis = await pool.analyse(window, ("transcript",), deadline_s=0.0, interactive=True)
    return " ".join(answer.text for answer in analysis.answers if isinstance(answer, TextAnswer))


def _whole(path: Path) -> Window:
    """A recording as one window."""
    audio = asr.read_audio(path)
    return Window(
        key=SessionKey("default", path.name, "0"),
        channel=0,
        track=Track.SPEECH,
        start_sample=0,
        end_sample=len(audio),
        audio=audio,
        origin=Origin(str(path), 0, 0),
        traceparents=(),
        role=None,
        speech_end_sample=len(audio),
    )
