"""Words that the engine invents where nobody speaks, and the speech it must not reject for that.

In: an engine, recordings held out from training. Out: words per minute over at least 20 minutes of silence, noise,
hold music and tones, every second of it forced through the engine (no VAD), and the recall on real prompts.
Knows no training. Invariant: the audio is a pure function of the seed and the recordings, so that two engines hear
the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.engine import Engine
from model.evaluate import asr
from model.evaluate.measures import Measure, share
from model.train.audio import RATE_HZ, to_int16
from model.train.sounds import Recordings, SoundClass, load_recordings
from model.train.windows import sound_window

SEED = 7_112_026
MINUTES: dict[SoundClass, float] = {"silence": 4.0, "noise": 6.0, "music": 7.0, "tones": 4.0}
WINDOW_S = (2.0, 30.0)


@dataclass(frozen=True)
class Report:
    """`words` per class of sound; `invented` are the texts themselves (there should be none)."""

    minutes: float
    words: dict[str, int]
    words_per_minute: float
    invented: tuple[str, ...]
    prompts: asr.Score | None


def windows(
    recordings: Recordings, seed: int = SEED, part: float = 1.0
) -> Iterator[tuple[str, npt.NDArray[np.int16]]]:
    """Class and audio of windows of 2–30 s, until each class has its minutes, or a `part` of them.

    The beginnings of real recordings come as well.
    """
    for number, (kind, minutes) in enumerate(MINUTES.items()):
        rng = np.random.default_rng([seed, number])
        made_s = 0.0
        if kind == "music":
            for track in recordings.music:
                for start in range(0, min(len(track), int(part * 120 * RATE_HZ)) - RATE_HZ, 20 * RATE_HZ):
                    piece = to_int16(track[start : start + 20 * RATE_HZ])
                    made_s += len(piece) / RATE_HZ
                    yield kind, piece
        while made_s < part * minutes * 60:
            samples = int(rng.uniform(*WINDOW_S) * RATE_HZ)
            yield kind, to_int16(sound_window(kind, samples, recordings, rng).wave)
            made_s += samples / RATE_HZ


@dataclass(frozen=True)
class Invented:
    """What was written of one window where nobody speaks."""

    kind: str
    seconds: float
    text: str


def listen(engine: Engine, asterisk: Path, esc10: Path | None, part: float = 1.0) -> list[Invented]:
    """Every window, forced through the engine."""
    transcribe = asr.engine_transcriber(engine)
    sounds = windows(load_recordings(asterisk, esc10, held_out=True), part=part)
    return [Invented(kind, len(audio) / RATE_HZ, transcribe(audio)) for kind, audio in sounds]


def rates(heard: Sequence[Invented], note: str = "") -> list[Measure]:
    """Words per minute, and the share of windows with any word."""
    words = tuple(float(len(one.text.split())) for one in heard)
    minutes = tuple(one.seconds / 60 for one in heard)
    return [
        Measure("non-speech: words invented", "words/min", "lower", words, minutes, 1.0, note),
        share("non-speech: windows with invented words", [bool(one.text) for one in heard], "lower", note),
    ]


def evaluate(
    engine: Engine, asterisk: Path, esc10: Path | None, references: Sequence[asr.Reference]
) -> Report:
    """Force everything through the engine and count; then the recall on `references`."""
    heard = listen(engine, asterisk, esc10)
    words: dict[str, int] = dict.fromkeys(MINUTES, 0)
    for one in heard:
        words[one.kind] += len(one.text.split())
    minutes = sum(one.seconds for one in heard) / 60
    invented = tuple(f"{one.kind}: {one.text}" for one in heard if one.text)
    transcribe = asr.engine_transcriber(engine)
    spoken = asr.evaluate(references, transcribe).all if references else None
    return Report(minutes, words, sum(words.values()) / minutes, invented, spoken)
