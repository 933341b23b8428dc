"""Whether the engine's memory stays where it is: resident memory over a few thousand windows.

In: a checkpoint. Out: a `Soak`: resident memory after the first windows and after the last, and whether they agree.
The audio is made on the spot: babble that is taken for speech, so that texts are searched for, and noise; 0.3 to
12 s, as many of them per octave of length. Knows no Kafka and no stream.
Invariant: what is asked of the engine is a function of the seed alone, and never more than `IN_FLIGHT` windows are
under way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from model.answers import Request, Response, TextAnswer
from model.engine import Engine
from model.features import SAMPLE_RATE_HZ

SEED = 11
IN_FLIGHT = 16
EVERY = 100  # windows between two looks at the memory
WINDOW_S = (0.3, 12.0)
TOLERANCE = 0.05
TASKS = (("transcript", "questions:speech"), ("caption", "questions:scene"))
VOWELS_HZ = (  # first three formants (Peterson and Barney, 1952)
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
    (660, 1720, 2410),
    (490, 1350, 1690),
)
RESONANCES = ((1.0, 70), (0.6, 100), (0.35, 140))  # gain and width in Hz of each formant


@dataclass(frozen=True)
class Soak:
    """`rss_mb` is the resident memory after every `every` windows; `seconds` are the engine's, without making audio.

    `holds`: memory at the end is within 5 % of that after `first` windows, and no window failed.
    """

    windows: int
    audio_s: float
    seconds: float
    windows_s: float
    errors: int
    texts: int  # transcripts and captions that are not empty
    every: int
    rss_mb: tuple[float, ...]
    first: int
    rss_first_mb: float
    rss_last_mb: float
    ratio: float
    holds: bool


def run(
    checkpoint: Path,
    windows: int = 2000,
    first: int = 200,
    device: str = "auto",
    threads: int | None = None,
    half: bool | None = None,
    seed: int = SEED,
) -> Soak:
    """Feed `windows` windows through a new engine; memory after all against memory after `first` of them.

    half: as in `model.device.choose`.
    Raises CheckpointError, and ValueError for an absent device or when there are not more windows than `first`.
    """
    if not 0 < first < windows:
        raise ValueError(f"{windows} windows, and memory compared with that after {first}: more expected")
    engine = Engine.open(checkpoint, device=device, threads=threads, half=half)
    engine.warm_up()
    every = min(EVERY, first)
    samples = submitted = answered = errors = texts = 0
    seconds, rss_first_mb, rss_mb = 0.0, 0.0, []
    while answered < windows:
        while submitted < windows and submitted - answered < IN_FLIGHT:
            request = made(seed, submitted)
            samples += len(request.audio)
            submitted += 1
            engine.submit(request)
        started_s = time.monotonic()
        responses = engine.step()
        seconds += time.monotonic() - started_s
        for response in responses:
            answered += 1
            errors += response.error is not None
            texts += _has_text(response)
            if answered == first:
                rss_first_mb = resident_mb()
            if answered % every == 0:
                rss_mb.append(round(resident_mb(), 1))
    rss_last_mb = resident_mb()
    ratio = rss_last_mb / rss_first_mb
    return Soak(
        windows=windows,
        audio_s=round(samples / SAMPLE_RATE_HZ, 1),
        seconds=round(seconds, 1),
        windows_s=round(windows / seconds, 2),
        errors=errors,
        texts=texts,
        every=every,
        rss_mb=tuple(rss_mb),
        first=first,
        rss_first_mb=round(rss_first_mb, 1),
        rss_last_mb=round(rss_last_mb, 1),
        ratio=round(ratio, 4),
        holds=abs(ratio - 1) <= TOLERANCE and not errors,
    )


def made(seed: int, number: int) -> Request:
    """The window of this number: voice and noise in turn, of each in turn a transcript and a caption."""
    rng = np.random.default_rng([seed, number])
    seconds = float(np.exp(rng.uniform(*np.log(WINDOW_S))))
    audio = noise(seconds, rng) if number % 2 else voice(seconds, rng)
    return Request(str(number), audio, TASKS[number // 2 % 2])


def noise(seconds: float, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """int16 [n]: white noise of any level."""
    white = rng.normal(0, 1, round(seconds * SAMPLE_RATE_HZ)) * 10 ** rng.uniform(1, 3.5)
    return np.asarray(white.clip(-32768, 32767), dtype=np.int16)


def voice(seconds: float, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """int16 [n]: babble that nano takes for speech. Vowels of 60–200 ms glide into each other, after a hiss, a burst
    or nothing; the last half second of every three is a pause.
    """
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    lengths_s = rng.uniform(0.06, 0.2, int(seconds / 0.06) + 2)
    starts_s = np.cumsum(lengths_s) - lengths_s
    syllable = np.searchsorted(starts_s, t, side="right") - 1
    vowels = np.array(VOWELS_HZ)[rng.integers(0, len(VOWELS_HZ), len(starts_s))]
    formants_hz = [np.interp(t, starts_s + lengths_s / 2, vowels[:, i]) for i in range(3)]
    base_hz = rng.uniform(90, 210)
    pitch_hz = base_hz * (1.15 - 0.12 * (t % 2.5)) * (1 + 0.05 * np.sin(2 * np.pi * 2.2 * t))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    sound = np.zeros(t.size)
    for harmonic in range(1, int(4000 / base_hz) + 1):
        strength = sum(
            gain / (1 + ((harmonic * pitch_hz - centre_hz) / width_hz) ** 2)
            for centre_hz, (gain, width_hz) in zip(formants_hz, RESONANCES, strict=True)
        )
        sound += strength * np.sin(harmonic * phase)
    since_s = t - starts_s[syllable]
    kind = rng.integers(0, 3, len(starts_s))[syllable]  # nothing, hiss, burst
    hiss = (kind == 1) * 0.4 * np.exp(-(((since_s - 0.03) / 0.025) ** 2))
    burst = (kind == 2) * 0.8 * np.exp(-((since_s / 0.008) ** 2))
    voiced = np.where(kind, ((since_s - 0.04) / 0.03).clip(0, 1), 0.6 + 0.4 * (since_s / 0.05).clip(0, 1))
    white = np.diff(rng.normal(0, 1, t.size + 1))
    sound = sound * voiced + white * (hiss + burst) + rng.normal(0, 0.003, t.size)
    sound[t % 3 > 2.5] *= 0.01
    return np.asarray(sound / np.abs(sound).max() * 12_000, dtype=np.int16)


def resident_mb() -> float:
    """Resident memory of this process in MB (10⁶ bytes)."""
    return float(psutil.Process().memory_info().rss) / 1e6


def _has_text(response: Response) -> bool:
    return any(isinstance(answer, TextAnswer) and answer.text != "" for answer in response.answers)
