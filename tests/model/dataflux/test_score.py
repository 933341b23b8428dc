"""A checkpoint asked a manifest's questions: each about its own audio, and each about another's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model.answers import ChoiceAnswer, Question, Request
from model.checkpoint import Loaded
from model.dataflux.score import score
from model.dataflux.values import Clip, Item, Material
from model.dataflux.witnesses import Ears, LettersWitness
from model.device import choose
from model.engine import Engine
from model.train.manifest import Sample
from tests.model import tiny
from workers.recordings import read_audio, write_wav

ASKED = (("Who?", ("a", "b", "c")), ("Which?", ("b", "d")), ("Where?", ("e", "f", "g", "h")))


async def test_a_checkpoint_answers_any_question_by_the_letters_of_its_options() -> None:
    model = tiny.model()
    loaded = Loaded(model, tiny.tokenizer(), model.config, "0" * 64)
    placement = choose("cpu", False, half=False)
    witness = LettersWitness(Ears(Engine(loaded, placement, 1)))
    noise = np.random.default_rng(3).normal(0, 4000, 20_000).astype(np.int16)
    clip = Clip("c", lambda: Material(noise), "s", "l")
    asked = [Item(text, choices, 0, "Sound > Time > count") for text, choices in ASKED]
    found = [await witness.answer(clip, Material(noise), one, None) for one in asked]
    questions = tuple(
        Question(str(n), "scene", text, choices, "q") for n, (text, choices) in enumerate(ASKED)
    )
    config = dataclasses.replace(loaded.config, questions=questions)
    engine = Engine(dataclasses.replace(loaded, config=config), placement, 1)
    (response,) = engine.run([Request("c", noise, ("questions:scene",))])
    for one, answer, item in zip(found, response.answers, asked, strict=True):
        assert isinstance(answer, ChoiceAnswer)
        assert one.choice is not None
        assert item.options[one.choice] == answer.label
        assert f"A {answer.probabilities[item.options[0]]:.2f}" in one.trace
    assert set(witness.ears.engine.analyst.questions) == {"sound", "line"}


def test_a_checkpoint_is_scored_by_the_letters_it_finds_likeliest(tmp_path: Path) -> None:
    model = tiny.model()
    loaded = Loaded(model, tiny.tokenizer(), model.config, "0" * 64)
    placement = choose("cpu", False, half=False)
    questions = tuple(
        Question(str(n), "scene", text, choices, "q") for n, (text, choices) in enumerate(ASKED)
    )
    config = dataclasses.replace(loaded.config, questions=questions)
    engine = Engine(dataclasses.replace(loaded, config=config), placement, 1)
    samples = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.wav"
        noise = np.random.default_rng(len(samples)).normal(0, 4000, 20_000).astype(np.int16)
        write_wav(path, noise)
        (response,) = engine.run([Request(name, read_audio(path), ("questions:scene",))])
        for answer, (text, choices) in zip(response.answers, ASKED, strict=True):
            assert isinstance(answer, ChoiceAnswer)
            samples.append(
                Sample(
                    audio=path,
                    task="semantic" if text == "Who?" else "paralinguistic",
                    prompt=text,
                    answer=answer.label,
                    choices=choices,
                    language="en",
                    licence="CC0-1.0",
                )
            )
    all_right = score(loaded, placement, samples, 1)
    assert (all_right.questions, all_right.windows, all_right.right) == (6, 2, 1.0)
    assert all_right.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3, abs=1e-4)
    other = next(choice for choice in samples[0].choices if choice != samples[0].answer)
    samples[0] = samples[0].model_copy(update={"answer": other})
    found = score(loaded, placement, samples, 1)
    assert (found.right, found.by_task) == (0.8333, {"paralinguistic": 1.0, "semantic": 0.5})
    # of two windows one is wholly right, the other in two of three: no draw of windows gives less, or more
    assert (found.low, found.high) == (0.6667, 1.0)
    with pytest.raises(ValueError, match="no line has choices"):
        score(loaded, placement, [], 1)
