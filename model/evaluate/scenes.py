"""Can the model tell speech, music, tones, noise and silence apart?

In: an engine, recordings held out from training. Out: how many of 100 unseen, balanced scenes it names right, in the
scene question and in the caption, and the same with the audio shuffled between the scenes (which must be chance).
Knows no training. Invariant: the scenes are a pure function of the seed and the recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.answers import ChoiceAnswer, Request, TextAnswer
from model.engine import Engine
from model.evaluate.holdout import is_test, prompts
from model.train.audio import RATE_HZ, read, to_int16, trim
from model.train.sounds import Recordings, load_recordings
from model.train.windows import SCENE_CLASSES, Utterance, caption_class, sound_window, speech_window

SEED = 20_261_123
SCENE_S = (5.0, 10.0)


@dataclass(frozen=True)
class Scene:
    """int16 audio at 16 kHz and its class."""

    audio: npt.NDArray[np.int16]
    kind: str


@dataclass(frozen=True)
class Report:
    """Fractions of the scenes whose class was named; `confused` counts (truth, answer) of the question's errors."""

    scenes: int
    question: float
    caption: float
    question_shuffled: float
    caption_shuffled: float
    confused: dict[str, int]


def build(asterisk: Path, esc10: Path | None, count: int, seed: int = SEED) -> list[Scene]:
    """Balanced scenes from held-out music and events, and test-fifth prompts. ValueError without prompts."""
    recordings = load_recordings(asterisk, esc10, held_out=True)
    spoken = [path for path, text in sorted(prompts(asterisk).items()) if is_test(text)]
    if not spoken:
        raise ValueError(f"no prompts under {asterisk}")
    scenes = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        kind = SCENE_CLASSES[i % len(SCENE_CLASSES)]
        samples = int(rng.uniform(*SCENE_S) * RATE_HZ)
        if kind == "speech":
            wave = _speech(spoken, samples, recordings, rng)
        else:
            wave = sound_window(kind, samples, recordings, rng).wave  # type: ignore[arg-type]
        scenes.append(Scene(to_int16(wave), kind))
    return scenes


def _speech(
    spoken: Sequence[Path], samples: int, recordings: Recordings, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Prompts until the scene is about full."""
    said: list[Utterance] = []
    while sum(len(u.wave) for u in said) < samples // 2:
        wave = trim(read(spoken[int(rng.integers(len(spoken)))]))
        said.append(Utterance(wave, "", "female", None, "asterisk"))
    return speech_window(said, recordings, rng).wave[: 2 * samples]


def evaluate(engine: Engine, scenes: Sequence[Scene], seed: int = SEED) -> Report:
    """Ask about every scene; the shuffled score compares the same answers with another scene's truth."""
    asked: list[str | None] = []
    described: list[str | None] = []
    confused: dict[str, int] = {}
    for i, scene in enumerate(scenes):
        response = engine.run([Request(str(i), scene.audio, ("question:sound", "caption"))])[0]
        if response.error is not None:
            raise ValueError(response.error)
        choice = next(a for a in response.answers if isinstance(a, ChoiceAnswer))
        caption = next(a for a in response.answers if isinstance(a, TextAnswer))
        asked.append(choice.label)
        described.append(caption_class(caption.text))
        if choice.label != scene.kind:
            key = f"{scene.kind} called {choice.label}"
            confused[key] = confused.get(key, 0) + 1
    truth = [scene.kind for scene in scenes]
    # The audio is the same; only its place among the truths changes.
    shuffled = [truth[i] for i in np.random.default_rng(seed).permutation(len(truth))]
    return Report(
        len(scenes),
        _share(asked, truth),
        _share(described, truth),
        _share(asked, shuffled),
        _share(described, shuffled),
        confused,
    )


def _share(answers: Sequence[str | None], truth: Sequence[str]) -> float:
    return sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)
