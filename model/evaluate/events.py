"""Which sound is it? Sound events of the fold that no training heard.

In: an engine, a folder of sound events (`CLASS/FOLD-….ogg`, ESC-10). Out: how many are named, and what the checkpoint's
own question about sounds calls each class. Knows no training. Invariant: only the held-out fold, every clip of it.

A checkpoint that has a question with all these classes among its choices answers that one. Another is asked one of our
own, which it may never have been trained for: chance is then one in as many classes, and the figure says so, and
whether it is above chance at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.answers import ChoiceAnswer, Request
from model.config import Question
from model.engine import Engine
from model.evaluate.asr import Audio, read_audio, split
from model.evaluate.confusions import Confusion
from model.evaluate.interview import Asked, ask
from model.evaluate.measures import Measure, share
from model.train.sounds import HELD_OUT_FOLD

QUESTION = "Which sound is heard?"
UNASKED = "the checkpoint has no question that names these sounds, and was asked one of ours"
BROAD = "sound"  # the checkpoints' question about kinds of sound: speech, music, noise …


@dataclass(frozen=True)
class Report:
    """`named`: classes by name. `broad`: what the broad question calls each class; None without such a question."""

    accuracy: Measure
    named: Confusion
    broad: Confusion | None


def evaluate(engine: Engine, folder: Path) -> Report:
    """Raises ValueError for a folder without clips of the held-out fold."""
    files = sorted(folder.glob(f"*/{HELD_OUT_FOLD}-*.ogg"))
    if not files:
        raise ValueError(f"{folder} holds no clip of fold {HELD_OUT_FOLD}")
    classes = tuple(sorted({_name(path) for path in files}))
    audios = [split(read_audio(path), engine.max_samples)[0] for path in files]
    truths = [_name(path) for path in files]
    own = next((q for q in engine.questions if set(classes) <= {_plain(c) for c in q.choices}), None)
    called = _own(engine, own, audios) if own is not None else _ours(engine, classes, audios)
    named = _confusion(own.name if own is not None else "our question", classes, truths, called)
    name = f"sound events, fold {HELD_OUT_FOLD}"
    note = f"the checkpoint's question {own.name!r}" if own is not None else UNASKED
    chance = 100 / len(classes)
    if share(name, named.right).interval().low <= chance:
        note += ": no better than chance"
    note += f"; chance is {chance:.0f} %"
    broad = next((q for q in engine.questions if q.name == BROAD), None)
    return Report(
        share(name, named.right, note=note),
        named,
        None if broad is None else _confusion(BROAD, classes, truths, _own(engine, broad, audios)),
    )


def _own(engine: Engine, question: Question, audios: list[Audio]) -> list[tuple[str, float]]:
    """What a question of the checkpoint says of each, and how sure."""
    answers = []
    for response in engine.run([Request("", audio, (f"question:{question.name}",)) for audio in audios]):
        if response.error is not None:
            raise ValueError(response.error)
        (answer,) = response.answers
        assert isinstance(answer, ChoiceAnswer)
        answers.append((_plain(answer.label), answer.probabilities[answer.label]))
    return answers


def _ours(engine: Engine, classes: tuple[str, ...], audios: list[Audio]) -> list[tuple[str, float]]:
    asked = (Asked(audio, QUESTION, classes) for audio in audios)
    return [
        max(zip(classes, reply.letters, strict=True), key=lambda pair: pair[1])
        for reply in ask(engine, asked, most_tokens=1)
    ]


def _confusion(
    question: str, classes: tuple[str, ...], truths: list[str], called: list[tuple[str, float]]
) -> Confusion:
    columns = tuple(dict.fromkeys((*classes, *sorted({label for label, _ in called}))))
    if question == BROAD:
        columns = tuple(sorted({label for label, _ in called}))
    counts = [[0] * len(columns) for _ in classes]
    for truth, (label, _) in zip(truths, called, strict=True):
        counts[classes.index(truth)][columns.index(label)] += 1
    return Confusion(
        question,
        classes,
        columns,
        tuple(map(tuple, counts)),
        tuple(truth == label for truth, (label, _) in zip(truths, called, strict=True)),
        tuple(sure for _, sure in called),
    )


def _name(path: Path) -> str:
    return _plain(path.parent.name)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())
