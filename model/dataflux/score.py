"""How many questions of a manifest a checkpoint gets right: what training on DataFlux is to be judged by.

In: a loaded checkpoint, a manifest of questions with choices. Out: the share that is right, per task, and the same with
the audio of another line: what the words of the questions alone give away. Knows no training. Invariants: a question is
answered by the probabilities of the choice letters at one position, in the order of the manifest; nothing is decoded.
Intervals are drawn over windows, not over questions: those about one window are right or wrong together.
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
from model.evaluate.measures import Measure
from model.train.audio import RATE_HZ, read, to_int16
from model.train.manifest import Sample

SEED = 20_261_125
Window = tuple[Path, float, float | None]


@dataclass(frozen=True)
class Answered:
    """1.0 for each question that was answered right; `other`: the same questions about another line's audio."""

    asked: tuple[Sample, ...]
    right: tuple[float, ...]
    other: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """`right` of `questions`, 95 % interval `low` to `high`; `chance` is what guessing would get; `other_audio` is
    right with another line's audio."""

    questions: int
    windows: int
    right: float
    low: float
    high: float
    other_audio: float
    chance: float
    by_task: dict[str, float]


def score(
    loaded: Loaded, placement: Placement, samples: Sequence[Sample], threads: int | None = None
) -> Score:
    """Ask everything. Raises ValueError when there is no question with choices."""
    found = answer(loaded, placement, samples, threads)
    whole = share("right", found.asked, found.right)
    interval = whole.interval()
    tasks = sorted({one.task for one in found.asked})
    return Score(
        questions=len(found.asked),
        windows=whole.items,
        right=_mean(found.right),
        low=round(interval.low / whole.scale, 4),
        high=round(interval.high / whole.scale, 4),
        other_audio=_mean(found.other),
        chance=chance(found.asked),
        by_task={
            task: _mean([hit for hit, one in zip(found.right, found.asked, strict=True) if one.task == task])
            for task in tasks
        },
    )


def answer(
    loaded: Loaded, placement: Placement, samples: Sequence[Sample], threads: int | None = None
) -> Answered:
    """Ask every line that has choices, twice. Raises ValueError when there is none."""
    asked = tuple(sample for sample in samples if sample.choices)
    if not asked:
        raise ValueError("no line has choices")
    questions = tuple(
        Question(str(number), "scene", one.prompt, one.choices, "dataflux")
        for number, one in enumerate(asked)
    )
    config = dataclasses.replace(loaded.config, questions=questions)
    engine = Engine(dataclasses.replace(loaded, config=config), placement, threads)
    order = np.random.default_rng(SEED).permutation(len(asked)).tolist()
    return Answered(asked, *_ask(engine, asked, order))


def share(name: str, asked: Sequence[Sample], right: Sequence[float]) -> Measure:
    """The share that is right, in per cent, with the windows as its items."""
    tops: dict[Window, float] = {}
    bottoms: dict[Window, float] = {}
    for one, hit in zip(asked, right, strict=True):
        tops[one.window] = tops.get(one.window, 0.0) + hit
        bottoms[one.window] = bottoms.get(one.window, 0.0) + 1.0
    return Measure(name, "%", "higher", tuple(tops.values()), tuple(bottoms.values()))


def chance(asked: Sequence[Sample]) -> float:
    """What guessing would get."""
    return _mean([1 / len(one.choices) for one in asked])


def _ask(
    engine: Engine, asked: Sequence[Sample], audio_of: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """1 or 0 per question about its own audio, and about that of the line `audio_of`; a window is encoded once."""
    windows: dict[Window, tuple[list[int], list[int]]] = {}
    for number, place in enumerate(audio_of):
        windows.setdefault(asked[number].window, ([], []))[0].append(number)
        windows.setdefault(asked[place].window, ([], []))[1].append(number)
    right, other = [0.0] * len(asked), [0.0] * len(asked)
    for window, (own, others) in windows.items():
        tasks = tuple(f"question:{number}" for number in dict.fromkeys([*own, *others]))
        (response,) = engine.run([Request("score", _audio(*window), tasks)])
        if response.error is not None:
            raise ValueError(f"{window[0]}: {response.error}")
        said = {int(one.question): one.label for one in response.answers if isinstance(one, ChoiceAnswer)}
        for found, numbers in ((right, own), (other, others)):
            for number in numbers:
                found[number] = float(said[number] == asked[number].answer)
    return tuple(right), tuple(other)


def _audio(path: Path, start_s: float, end_s: float | None) -> Samples:
    wave = read(path)
    end = len(wave) if end_s is None else int(end_s * RATE_HZ)
    samples: Samples = to_int16(wave[int(start_s * RATE_HZ) : end])
    return samples


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
