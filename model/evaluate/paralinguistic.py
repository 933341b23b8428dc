"""How something is said, not what: windows whose voice, line and background are known.

In: held-out recordings. Out: `Labelled` windows for `confusions`. Knows no model. Invariants: speech is of the Asterisk
test fifth (a woman) and of the held-out digit speaker (a man), never of training; a label is there only where the
window's make-up tells it.

Two voices only, one of each sex, and no truth about pace; nor about the man's line, for his digits were recorded at
8 kHz. For more, bring a manifest with "labels".
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from model.evaluate.asr import Reference, read_reference, split
from model.evaluate.confusions import Labelled
from model.evaluate.holdout import is_test, prompts
from model.evaluate.scenes import Scene
from model.train.audio import read, to_int16, trim
from model.train.sounds import load_recordings
from model.train.sources import HELD_OUT_DIGIT_SPEAKER
from model.train.windows import Utterance, speech_window

SEED = 20_261_124
LONGEST_SAMPLES = 480_000


def windows(
    asterisk: Path, esc10: Path | None, takes: Path | None, count: int, seed: int = SEED
) -> Iterator[Labelled]:
    """`count` windows of speech, every other one the man's where there are digits. ValueError without prompts."""
    recordings = load_recordings(asterisk, esc10, held_out=True)
    women = [path for path, text in sorted(prompts(asterisk).items()) if is_test(text)]
    men = [] if takes is None else sorted(takes.glob(f"?_{HELD_OUT_DIGIT_SPEAKER}_*.flac"))
    if not women:
        raise ValueError(f"no prompts under {asterisk}")
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        files = random.Random(seed + number)
        if men and number % 2:
            waves, sex = [trim(read(path)) for path in files.choices(men, k=files.randint(3, 8))], "male"
        else:
            waves, sex = [trim(read(files.choice(women)))], "female"
        said = [Utterance(wave, "", sex, None, "held out") for wave in waves]
        made = speech_window(said, recordings, rng)
        labels = {name: answer for name, answer in made.answers.items() if sex == "female" or name != "line"}
        yield Labelled(to_int16(made.wave)[:LONGEST_SAMPLES], labels)


def of_scenes(scenes: Iterable[Scene]) -> Iterator[Labelled]:
    """Scenes as labelled windows."""
    return (Labelled(scene.audio, {"sound": scene.kind}) for scene in scenes)


def of_references(references: Iterable[Reference]) -> Iterator[Labelled]:
    """The first 30 s of each reference that has labels."""
    for reference in references:
        if reference.labels:
            audio = split(read_reference(reference), LONGEST_SAMPLES)[0]
            yield Labelled(audio, dict(reference.labels))
