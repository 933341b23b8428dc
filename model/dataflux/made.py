"""Scenes made on the spot, with the caption and the facts that they were made of.

In: a count, a seed, recordings of music and events where there are any. Out: clips. Knows no model. Invariants: a
clip is a pure function of its number, the seed, the recordings and the program that speaks; whatever its facts say was
put there by `model.train.synthesis` or `model.train.windows`.

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

from model.dataflux import truths
from model.dataflux.aspects import NOBODY
from model.dataflux.values import Caption, Clip, Material
from model.train import texts
from model.train.audio import RATE_HZ, read, to_int16, trim
from model.train.sounds import Recordings, SoundClass
from model.train.synthesis import Speaker, Utterance, compose
from model.train.synthesise import speak
from model.train.voices import FLITE, Pace, Voice, draw_rate
from model.train.windows import sound_window

SCENE_S = (4.0, 10.0)
SENTENCES = {1: (1, 2), 2: (1, 1, 2)}  # by the number of speakers
SOUNDS: tuple[SoundClass, ...] = ("music", "tones", "noise", "silence")
LICENCE = "Apache-2.0"
LICENCE_WITH_RECORDINGS = "CC-BY-SA-3.0"  # of the Asterisk music that is mixed in
TONES = "Signal tones are heard: "


def clips(count: int, seed: int, recordings: Recordings) -> Iterator[Clip]:
    """`count` scenes, speech and the four classes of sounds in turn."""
    speaks = shutil.which("flite") is not None
    mixed = bool(recordings.music or recordings.events)
    for number in range(count):
        yield Clip(
            name=f"made-{seed}-{number:05d}",
            load=functools.partial(_scene, number, seed, recordings, speaks),
            source="made scene, flite voices" if speaks else "made scene",
            licence=LICENCE_WITH_RECORDINGS if mixed else LICENCE,
            language="en",
            extra={"seed": seed, "number": number},
        )


def _scene(number: int, seed: int, recordings: Recordings, speaks: bool) -> Material:
    rng = np.random.default_rng([seed, number])
    if speaks and number % 2 == 0:
        speakers = _speakers(random.Random(f"{seed}/{number}"))
        scene = compose(speakers, recordings, rng, channels=1)
        while not truths.audible(scene.truth):  # a quiet voice under another one's noise
            scene = compose(speakers, recordings, rng, channels=1)
        return Material(to_int16(scene.audio_CN[0]), truths.caption(scene.truth))
    kind = SOUNDS[(number // 2 if speaks else number) % len(SOUNDS)]
    window = sound_window(kind, int(rng.uniform(*SCENE_S) * RATE_HZ), recordings, rng)
    assert window.caption is not None
    facts = {"sound": kind, "voice": NOBODY}
    if window.caption.startswith(TONES):
        facts["signal"] = window.caption.removeprefix(TONES).partition(".")[0]
    return Material(to_int16(window.wave), Caption(window.caption, facts))


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
    return Utterance(wave, text, voice.sex, pace, "call", f"flite/{voice.name}", "flite")
