"""Scenes made on the spot, with the caption and the facts that they were made of.

In: a count, a seed, recordings of music and events where there are any. Out: clips. Knows no model. Invariants: a
clip is a pure function of its number, the seed, the recordings and the program that speaks; whatever its facts say was
put there by `model.train.windows`.

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
from model.dataflux.values import Caption, Clip, Material
from model.train import texts
from model.train.audio import RATE_HZ, read, to_int16, trim
from model.train.sounds import Recordings, SoundClass
from model.train.synthesise import speak
from model.train.voices import FLITE, draw_rate
from model.train.windows import Utterance, Window, sound_window, speech_window

SCENE_S = (4.0, 10.0)
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
        window = speech_window([_utterance(random.Random(f"{seed}/{number}"))], recordings, rng)
        sound = "speech"
    else:
        sound = SOUNDS[(number // 2 if speaks else number) % len(SOUNDS)]
        samples = int(rng.uniform(*SCENE_S) * RATE_HZ)
        window = sound_window(sound, samples, recordings, rng)
    assert window.caption is not None
    return Material(to_int16(window.wave), Caption(window.caption, _facts(window)))


def _facts(window: Window) -> dict[str, str]:
    """What is known of a window, by aspect: its answers, and what follows from nobody speaking."""
    facts = dict(window.answers)
    if facts["sound"] != "speech":
        facts["voice"] = NOBODY
    caption = window.caption or ""
    if caption.startswith(TONES):
        facts["signal"] = caption.removeprefix(TONES).partition(".")[0]
    return facts


def _utterance(rng: random.Random) -> Utterance:
    """A sentence of the call-center templates, by a flite voice."""
    voice = rng.choice(FLITE)
    pace, rate = draw_rate(rng)
    text = next(texts.call_center(rng))
    line = {"id": "said", "text": text, "program": "flite", "voice": voice.name, "rate": rate}
    with tempfile.TemporaryDirectory(prefix="eureka-scene-") as name:
        folder = Path(name)
        (folder / "plan.jsonl").write_text(json.dumps(line) + "\n")
        speak(folder / "plan.jsonl", folder)
        wave = trim(read(folder / "said.wav"))
    return Utterance(wave, text, voice.sex, pace, "flite")
