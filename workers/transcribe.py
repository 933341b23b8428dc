"""Files to results, here and now: the worker's segmenter and engine in this process, no broker and no database.

In: audio files in any common format. Out: the same transcripts, captions and events that a worker would store, in the
order of the stream. Does not know Kafka, SQL or asyncio. Invariant: memory does not grow with the length of a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np
import numpy.typing as npt

from model.answers import Request, Response
from streams.audio import Pcm, frame_samples
from streams.encode import stream_ids
from streams.errors import Reject
from streams.messages import Chunk, Message, Origin, SessionKey
from streams.windows import CutterConfig, SessionCutter, Window
from workers.limits import cutter_config
from workers.pool import Analysis
from workers.results import TASKS, poisoned, rows

if TYPE_CHECKING:
    from workers.settings import Settings

BLOCK_MS = 1000
WINDOWS_AT_ONCE = 32


class Engine(Protocol):
    """What this needs of `model.engine.Engine`."""

    name: str
    version: str

    def run(self, requests: Sequence[Request]) -> list[Response]: ...


@dataclass(frozen=True, slots=True)
class _Block:
    """A stretch of a file: `start_sample` at the file's own rate."""

    start_sample: int
    pcm: Pcm


def transcribe_files(
    files: Iterable[Path], settings: Settings, *, checkpoint: Path | None = None, device: str | None = None
) -> Iterator[Message]:
    """`transcribe` with the engine and the windows that the settings describe. Loads torch."""
    from model.engine import Engine as ModelEngine

    engine = ModelEngine.open(
        checkpoint or settings.checkpoint,
        device or settings.device.split(",")[0],
        compile=None if settings.engine_compile else False,
        half=None if settings.engine_half else False,
        short_buckets=settings.engine_short_buckets,
        threads=settings.engine_threads,
    )
    yield from transcribe(files, engine, cutter_config(settings))


def transcribe(files: Iterable[Path], engine: Engine, cutter: CutterConfig) -> Iterator[Message]:
    """Results of each file in turn. Its name is the stream id, with a number where an earlier file has the same.

    Raises Reject(decode) for a file that is no audio.
    """
    paths = list(files)
    for path, stream_id in zip(paths, stream_ids([path.name for path in paths]), strict=True):
        waiting: list[Window] = []
        for window in windows(path, cutter, stream_id):
            waiting.append(window)
            if len(waiting) >= WINDOWS_AT_ONCE:
                yield from _results(waiting, engine)
                waiting = []
        yield from _results(waiting, engine)


def windows(path: Path, config: CutterConfig, stream_id: str | None = None) -> Iterator[Window]:
    """The windows that a worker would cut from this file. Raises Reject(decode)."""
    key = SessionKey("default", stream_id or path.name, "0")
    cutter = SessionCutter(key, config, {}, None)
    for sequence, block in enumerate(_blocks(path)):
        content_type = f"audio/x-raw;format=S16LE;rate={block.pcm.rate};channels={len(block.pcm.samples)}"
        chunk = Chunk(
            key=key,
            sequence=sequence,
            start_sample=block.start_sample,
            content_type=content_type,
            payload=b"",
            roles=None,
            ce_id=str(sequence),
            source=str(path),
            captured_at=None,
            traceparent=None,
            origin=Origin(str(path), 0, sequence),
        )
        for cut in cutter.add(chunk, block.pcm, None):
            if (window := getattr(cut, "window", None)) is not None:
                yield window
    yield from (cut.window for cut in cutter.finish() if cut.window is not None)


def _results(waiting: list[Window], engine: Engine) -> Iterator[Message]:
    """Run the windows together; results in the order given."""
    requests = [
        Request(str(place), window.audio, TASKS[window.track]) for place, window in enumerate(waiting)
    ]
    for window, response in zip(waiting, engine.run(requests), strict=True):
        if response.error is not None:
            found = poisoned(window, response.error)
        else:
            found = rows(window, Analysis(response.answers, engine.name, engine.version))
        messages: tuple[Message, ...] = (
            *found.transcripts,
            *found.captions,
            *found.events,
            *found.dead_letters,
        )
        yield from messages


def _blocks(path: Path) -> Iterator[_Block]:
    """The file as int16 `[channels, n]` of about a second each, at its own rate. Raises Reject(decode)."""
    try:
        with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
            if not container.streams.audio:
                raise Reject("decode", f"{path}: no audio in this file")
            resampler = av.AudioResampler(format="s16p")
            held: list[npt.NDArray[np.int16]] = []
            start = rate = 0
            for frame in container.decode(audio=0):
                for even in resampler.resample(frame):
                    rate = even.sample_rate
                    held.append(frame_samples(even))
                if sum(part.shape[1] for part in held) * 1000 >= rate * BLOCK_MS:
                    block = _Block(start, Pcm(np.concatenate(held, axis=1), rate))
                    yield block
                    start += block.pcm.samples.shape[1]
                    held = []
            if held:
                yield _Block(start, Pcm(np.concatenate(held, axis=1), rate))
            elif not start:
                raise Reject("decode", f"{path}: an audio file without a sample")
    except (av.error.FFmpegError, OSError) as error:
        raise Reject("decode", f"{path}: {error.strerror}") from error
