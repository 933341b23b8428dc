"""Strings of spoken digits of a speaker whom no training heard, with words at exactly known places.

In: a folder of single spoken digits (`DIGIT_SPEAKER_TAKE.flac`, Free Spoken Digit Dataset). Out: recordings made of
them, in a folder with their manifest. Knows no model. Invariant: only takes of the held-out speaker, put together by
the rule of `model.train.sources` (2 to 8 digits, silence cut off both ends), from a fixed seed.

Places are exact as far as the takes' edges are: where a take rises above −40 dB of its loudest 20 ms. Real speech, but
of single words: nobody ran them together.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from model.dataflux.chat import wav_bytes
from model.evaluate.asr import Reference, write_manifest
from model.train.audio import RATE_HZ, Wave, read, to_int16, trim
from model.train.sources import HELD_OUT_DIGIT_SPEAKER
from model.train.spoken import ONES

SEED = 20_261_125
DIGITS = (2, 8)


def build(takes: Path, folder: Path, count: int, pause_s: float = 0.1, seed: int = SEED) -> list[Reference]:
    """`count` strings in `folder`, with a pause between digits. Raises ValueError without takes of the speaker."""
    found = sorted(takes.glob(f"?_{HELD_OUT_DIGIT_SPEAKER}_*.flac"))
    if not found:
        raise ValueError(f"{takes} holds no digit of {HELD_OUT_DIGIT_SPEAKER}")
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    references = []
    for number in range(count):
        chosen = rng.choices(found, k=rng.randint(*DIGITS))
        wave, words = _join(chosen, round(pause_s * RATE_HZ))
        path = folder / f"digits-{number:04d}.wav"
        path.write_bytes(wav_bytes(to_int16(wave)))
        text = " ".join(word for word, _, _ in words)
        references.append(Reference(path, text, rule="spoken", words=words))
    write_manifest(folder / "manifest.jsonl", references)
    return references


def _join(takes: list[Path], pause: int) -> tuple[Wave, tuple[tuple[str, int, int], ...]]:
    """The takes one after the other, and where each lies, in ms."""
    pieces, words, at = [np.zeros(pause, np.float32)], [], pause
    for path in takes:
        wave = trim(read(path))
        pieces += [wave, np.zeros(pause, np.float32)]
        words.append((ONES[int(path.name[0])], at * 1000 // RATE_HZ, (at + len(wave)) * 1000 // RATE_HZ))
        at += len(wave) + pause
    return np.concatenate(pieces), tuple(words)
