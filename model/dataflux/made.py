"""Scenes made on the spot, with the caption and the facts that they were made of.

In: a count, a seed, recordings of music and events where there are any. Out: clips. Knows no model. Invariants: a
clip is a pure function of its number, the seed, the recordings and the program that speaks; its facts are what
`model.train.synthesis` says it has put there; its licence is that of all that is in it (`model.train.cards`).

Where the program `flite` is installed half of the scenes are speech; elsewhere all are sounds.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model.dataflux.aspects import NOBODY
from model.dataflux.truths import facts
from model.dataflux.values import Caption, Clip, Material
from model.train import sounds, telling, texts
from model.train.audio import RATE_HZ, read, to_int16, trim
from model.train.lines import draw_line, through
from model.train.sounds import Recordings, SoundClass
from model.train.synthesis import Speaker, Utterance, compose
from model.train.synthesise import speak
from model.train.voices import FLITE, Pace, Voice, draw_rate
from model.train.windows import sound_caption

SCENE_S = (4.0, 10.0)
SENTENCES = {1: (1, 2), 2: (1, 1, 2)}  # by the number of speakers
SOUNDS: tuple[SoundClass, ...] = ("music", "tones", "noise", "silence")


def clips(count: int, seed: int, recordings: Recordings) -> Iterator[Clip]:
    """`count` scenes: people who speak, and the four classes of sounds, in turn."""
    speaks = shutil.which("flite") is not None
    for number in range(count):
        yield Clip(
            name=f"made-{seed}-{number:05d}",
            load=functools.partial(_scene, number, seed, recordings, speaks),
            source="scene",
            licence="",  # of what it is made of, which is known when it is made
            language="en",
            extra={"seed": seed, "number": number},
        )


def _scene(number: int, seed: int, recordings: Recordings, speaks: bool) -> Material:
    rng = np.random.default_rng([seed, number])
    if speaks and number % 2 == 0:
        scene = compose(_speakers(random.Random(f"{seed}/{number}")), recordings, rng, channels=1)
        known = Caption(telling.caption(scene.truth), facts(scene.truth))
        return Material(to_int16(scene.audio_CN[0]), known, scene.truth.sources)
    kind = SOUNDS[(number // 2 if speaks else number) % len(SOUNDS)]
    sound = sounds.draw(kind, int(rng.uniform(*SCENE_S) * RATE_HZ), recordings, rng)
    found = {"sound": kind, "voice": NOBODY}
    if kind == "tones":
        found["signal"] = sound.detail
    known = Caption(sound_caption(kind, sound.detail), found)
    return Material(to_int16(through(draw_line(rng), sound.wave, rng).wave), known, (sound.source,))


def _speakers(rng: random.Random) -> list[Speaker]:
    """One voice, or two different ones, with a few sentences each, at one pace each."""
    voices = rng.sample(FLITE, rng.choice((1, 1, 2)))
    sentences = texts.call_center(rng)
    speakers = []
    for voice in voices:
        pace, rate = draw_rate(rng)
        said = [
            _utterance(voice, pace, rate, next(sentences)) for _ in range(rng.choice(SENTENCES[len(voices)]))
        ]
        speakers.append(Speaker(voice.name, tuple(said)))
    return speakers


def _utterance(voice: Voice, pace: Pace, rate: float, text: str) -> Utterance:
    """A sentence as flite says it."""
    line = {"id": "said", "text": text, "program": "flite", "voice": voice.name, "rate": rate}
    with tempfile.TemporaryDirectory(prefix="eureka-scene-") as name:
        folder = Path(name)
        (folder / "plan.jsonl").write_text(json.dumps(line) + "\n")
        speak(folder / "plan.jsonl", folder)
        wave = trim(read(folder / "said.wav"))
    return Utterance(wave, text, voice.sex, pace, "call", f"flite/{voice.name}", "flite", "templates")
