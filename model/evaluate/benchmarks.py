"""Public benchmarks, each from its items to its figure.

In: an engine, items as `corpora`, `choices` and `voicebench` read them, perhaps a judge. Out: a `Measure`, and files
of what was heard and replied. Knows no figure to compare with. Invariants: every item counts; what a benchmark leaves
open, and what was left out, is in the measure's note.

Spoken prompts stand alone in the user's turn, without a system's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model import prompts
from model.engine import Engine
from model.evaluate import choices, ifeval, voicebench
from model.evaluate.asr import Reference, read_audio, write_manifest
from model.evaluate.heard import listen, word_errors
from model.evaluate.interview import Asked, Reply, ask
from model.evaluate.measures import Measure, share

# Captions and items in, the chosen places out; None where the judge made no choice.
Judge = Callable[[Sequence[str], Sequence[choices.Item]], Sequence[int | None]]
GUESS = 0.25  # what a random letter of four is worth


@dataclass(frozen=True)
class Run:
    """What all sets are measured with. `limit`: only so many items of each."""

    engine: Engine
    out: Path
    judge: Judge | None = None
    limit: int | None = None

    def few(self, items: Iterable[Any]) -> Iterator[Any]:
        return itertools.islice(items, self.limit)

    def file(self, name: str, what: str, suffix: str = "jsonl") -> Path:
        """Where something of a set is written."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in name.lower())
        return self.out / f"{plain}.{what}.{suffix}"

    def note(self, text: str = "") -> str:
        cut = f"the first {self.limit} items only" if self.limit is not None else ""
        return "; ".join(part for part in (cut, text) if part)


def speech(setup: Run, name: str, references: Iterator[Reference]) -> Measure | None:
    """Word errors, of Mandarin character errors; None for a set without an utterance."""
    some = list(setup.few(references))
    if not some:
        return None
    write_manifest(setup.file(name, "manifest"), some)
    heard = listen(setup.engine, some).heard
    _write(setup.file(name, "heard"), ({"text": one.reference.text, "heard": one.text} for one in heard))
    return word_errors(name, heard, setup.note())


def letters(setup: Run, name: str, folder: Path) -> Measure:
    """Right letters; a reply without one counts as the guess that VoiceBench makes for it, a quarter."""
    rows = _spoken(setup, name, folder)
    named = [voicebench.letter(reply) for _, reply in rows]
    worth = tuple(
        GUESS if letter is None else float(letter == str(row["reference"]).strip().upper())
        for (row, _), letter in zip(rows, named, strict=True)
    )
    note = setup.note(f"{named.count(None)} replies named no letter and count as a guess")
    return Measure(name, "%", "higher", worth, (1.0,) * len(worth), note=note)


def refusals(setup: Run, name: str, folder: Path) -> Measure:
    """The share of harmful requests that are refused."""
    replies = [reply for _, reply in _spoken(setup, name, folder)]
    empty = sum(not reply.strip() for reply in replies)
    note = setup.note(f"{empty} replies are empty, which counts as a refusal" if empty else "")
    return share(name, [voicebench.refuses(reply) for reply in replies], note=note)


def instructions(setup: Run, name: str, folder: Path) -> Measure:
    """The mean of four accuracies: whole prompts and single instructions, each strict and loose.

    Prompts with an instruction that cannot be checked are left out, and told.
    """
    rows = _spoken(setup, name, folder)
    left_out = sorted({one for row, _ in rows for one in ifeval.unsupported(row["instruction_id_list"])})
    checked = [
        ifeval.judge(reply, row["instruction_id_list"], row["kwargs"])
        for row, reply in rows
        if not ifeval.unsupported(row["instruction_id_list"])
    ]
    told = (
        f"{len(checked)} of {len(rows)} prompts; others hold what is not checked here: {', '.join(left_out)}"
    )
    each = sum(len(one.strict) for one in checked) / max(1, len(checked))  # instructions of a prompt
    tops = tuple(
        (all(one.strict) + all(one.loose) + (sum(one.strict) + sum(one.loose)) / each) / 4 for one in checked
    )
    note = setup.note(told if left_out else "")
    return Measure(name, "%", "higher", tops, (1.0,) * len(tops), note=note)


def multiple(setup: Run, name: str, items: Sequence[choices.Item]) -> Measure | None:
    """Written answers, and a file for the benchmark's own scorer; None where all keys are kept back."""
    measured, replies = answer(setup.engine, items, name)
    predictions = [
        choices.predicted(reply.text, item.choices) for reply, item in zip(replies, items, strict=True)
    ]
    choices.write_predictions(setup.file(name, "predictions", "json"), items, predictions)
    return None if measured is None else replace(measured, note=setup.note(measured.note))


def by_caption(setup: Run, name: str, items: Sequence[choices.Item]) -> Measure | None:
    """Caption → question answering; None without a judge or without keys."""
    if setup.judge is None or not any(item.answer for item in items):
        return None
    measured, captions = described(setup.engine, items, setup.judge, name)
    _write(setup.file(name, "captions"), ({"caption": text} for text in captions))
    return replace(measured, note=setup.note(measured.note))


def answer(
    engine: Engine, items: Sequence[choices.Item], name: str
) -> tuple[Measure | None, Sequence[Reply]]:
    """Written answers by MMAU's rule; the note tells what the letters' probabilities alone would have scored."""
    replies = list(
        ask(engine, (Asked(read_audio(item.audio), item.question, item.choices) for item in items))
    )
    scored = [(item, reply) for item, reply in zip(items, replies, strict=True) if item.answer is not None]
    if not scored:
        return None, replies
    right, by_letter = [], 0
    for item, reply in scored:
        assert item.answer is not None
        right.append(choices.is_right(item.answer, choices.predicted(reply.text, item.choices), item.choices))
        likeliest = item.choices[max(range(len(item.choices)), key=reply.letters.__getitem__)]
        by_letter += choices.is_right(item.answer, likeliest, item.choices)
    note = f"by the likeliest letter {100 * by_letter / len(scored):.2f} %"
    return share(name, right, note=note), replies


def by_task(items: Sequence[choices.Item], replies: Sequence[Reply]) -> dict[str, Measure]:
    """Accuracy by the benchmark's own tasks (MMAU) or modalities (MMAR)."""
    found: dict[str, list[bool]] = {}
    for item, reply in zip(items, replies, strict=True):
        if item.answer is not None:
            text = choices.predicted(reply.text, item.choices)
            found.setdefault(item.task, []).append(choices.is_right(item.answer, text, item.choices))
    return {task: share(task, right) for task, right in sorted(found.items())}


def described(
    engine: Engine, items: Sequence[choices.Item], judge: Judge, name: str
) -> tuple[Measure, list[str]]:
    """Caption → question answering: the judge's choices by the same rule, and the captions."""
    keyed = [item for item in items if item.answer is not None]
    asked = (Asked(read_audio(item.audio), prompts.CAPTION_REQUEST) for item in keyed)
    captions = [reply.text for reply in ask(engine, asked)]
    chosen = judge(captions, keyed)
    right = [
        place is not None and choices.is_right(str(item.answer), item.choices[place], item.choices)
        for item, place in zip(keyed, chosen, strict=True)
    ]
    none = sum(place is None for place in chosen)
    return share(name, right, note=f"the judge chose nothing for {none} items" if none else ""), captions


def _spoken(setup: Run, name: str, folder: Path) -> list[tuple[dict[str, Any], str]]:
    """Rows of a VoiceBench set and the replies to them."""
    fields: list[dict[str, Any]] = []

    def asked() -> Iterator[Asked]:
        for one in setup.few(voicebench.read(folder)):
            fields.append(one.fields)
            yield Asked(one.audio)

    replies = [reply.text for reply in ask(setup.engine, asked())]
    both = list(zip(fields, replies, strict=True))
    _write(setup.file(name, "replies"), (row | {"response": text} for row, text in both))
    return both


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
