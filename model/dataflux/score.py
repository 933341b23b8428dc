"""How many questions of a manifest a checkpoint gets right: what training on DataFlux is to be judged by.

In: a loaded checkpoint, a manifest of questions with choices. Out: the share that is right, per task, and the same with
the audio of another line: what the words of the questions alone give away. Knows no training. Invariant: a question is
answered by the probabilities of the choice letters at one position, in the order of the manifest; nothing is decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.answers import ChoiceAnswer, Request
from model.checkpoint import Loaded
from model.config import Question
from model.dataflux.values import Samples
from model.device import Placement
from model.engine import Engine
from model.train.audio import RATE_HZ, read, to_int16
from model.train.manifest import Sample

SEED = 20_261_125


@dataclass(frozen=True)
class Score:
    """`right` of `questions`; `chance` is what guessing would get; `other_audio` is right with another line's audio."""

    questions: int
    right: float
    other_audio: float
    chance: float
    by_task: dict[str, float]


def score(
    loaded: Loaded, placement: Placement, samples: Sequence[Sample], threads: int | None = None
) -> Score:
    """Ask everything. Raises ValueError when there is no question with choices."""
    asked = [sample for sample in samples if sample.choices]
    if not asked:
        raise ValueError("no line has choices")
    questions = tuple(
        Question(str(number), "scene", one.prompt, one.choices, "dataflux")
        for number, one in enumerate(asked)
    )
    config = dataclasses.replace(loaded.config, questions=questions)
    engine = Engine(dataclasses.replace(loaded, config=config), placement, threads)
    right = _right(engine, asked, range(len(asked)))
    order = np.random.default_rng(SEED).permutation(len(asked)).tolist()
    other = _right(engine, asked, order)
    tasks = sorted({one.task for one in asked})
    return Score(
        questions=len(asked),
        right=_mean(right),
        other_audio=_mean(other),
        chance=_mean([1 / len(one.choices) for one in asked]),
        by_task={
            task: _mean([hit for hit, one in zip(right, asked, strict=True) if one.task == task])
            for task in tasks
        },
    )


def _right(engine: Engine, asked: Sequence[Sample], audio_of: Sequence[int]) -> list[float]:
    """1 or 0 per question, each asked about the audio of the line `audio_of`; a window is encoded once."""
    found = [0.0] * len(asked)
    windows: dict[tuple[Path, float, float | None], list[int]] = {}
    for number, place in enumerate(audio_of):
        windows.setdefault(asked[place].window, []).append(number)
    for window, numbers in windows.items():
        tasks = tuple(f"question:{number}" for number in numbers)
        (response,) = engine.run([Request("score", _audio(*window), tasks)])
        if response.error is not None:
            raise ValueError(f"{window[0]}: {response.error}")
        for answer in response.answers:
            assert isinstance(answer, ChoiceAnswer)
            number = int(answer.question)
            found[number] = float(answer.label == asked[number].answer)
    return found


def _audio(path: Path, start_s: float, end_s: float | None) -> Samples:
    wave = read(path)
    end = len(wave) if end_s is None else int(end_s * RATE_HZ)
    samples: Samples = to_int16(wave[int(start_s * RATE_HZ) : end])
    return samples


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
