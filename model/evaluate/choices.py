"""Multiple-choice benchmarks in the JSON of MMAU (arXiv 2410.19168) and MMAR (arXiv 2505.13032).

In: the benchmark's JSON file and its audio. Out: items; whether a written answer is the right choice; the file that the
benchmark's own scorer takes. Knows no model. Invariant: an item without a key is asked and written, never scored.

A list of objects with `audio_id` (MMAU) or `audio_path` (MMAR), `question`, `choices`, `answer`, and `task` (MMAU) or
`modality` (MMAR), by which accuracy is also told. Scoring is MMAU's, which MMAR took over: an answer is right when all
words of the key are in it and none of the words that only other choices have. A reply that names a letter (`B`, `B.`,
`(B) …`) is first replaced by the choice of that letter, since the prompt letters the choices.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PREDICTION = "model_prediction"
_WORDS = re.compile(r"\b\w+\b")
_LETTER = re.compile(r"^\W*([A-Z])(?:[.):]|\W*$)")


@dataclass(frozen=True)
class Item:
    """`answer` is None where the benchmark keeps it back; `raw` is the object as it was read."""

    audio: Path
    question: str
    choices: tuple[str, ...]
    answer: str | None
    task: str
    raw: dict[str, Any]


def read(path: Path, audio: Path | None = None) -> list[Item]:
    """Items of a benchmark's file (a JSON list, or one object a line).

    audio: the folder where its paths start; None where that is the file's own.

    Raises ValueError with the item's number.
    """
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    raws = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in lines]
    items = []
    for number, raw in enumerate(raws, 1):
        try:
            items.append(_item(raw, audio or path.parent))
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{path}: item {number}: {error}") from None
    if not items:
        raise ValueError(f"{path} holds no item")
    return items


def _item(raw: dict[str, Any], folder: Path) -> Item:
    choices = raw["choices"]
    if isinstance(choices, str):  # a table's cell: "['yes', 'no']"
        choices = ast.literal_eval(choices)
    name = str(raw.get("audio_id") or raw["audio_path"])
    answer = raw.get("answer")
    return Item(
        audio=_found(folder, name),
        question=str(raw["question"]),
        choices=tuple(str(choice).strip() for choice in choices),
        answer=str(answer).strip() if answer else None,
        task=str(raw.get("task") or raw.get("modality") or ""),
        raw=raw,
    )


def _found(folder: Path, name: str) -> Path:
    """The file where the benchmark says it is, or, unpacked without its folder, by its name alone."""
    path = folder / name
    return path if path.exists() or not (folder / path.name).exists() else folder / path.name


def predicted(reply: str, choices: Sequence[str]) -> str:
    """The text that is scored: the choice that a letter names, else the reply itself."""
    named = _LETTER.match(reply)
    index = ord(named[1]) - ord("A") if named else len(choices)
    return choices[index] if index < len(choices) else reply


def is_right(answer: str, prediction: str, choices: Sequence[str]) -> bool:
    """MMAU's rule: all words of the answer, and no word that only other choices have."""
    key, said = _bag(answer), _bag(prediction)
    others = set().union(*(_bag(choice) - key for choice in choices if _bag(choice) != key))
    return bool(said) and key <= said and not said & others


def write_predictions(path: Path, items: Sequence[Item], predictions: Sequence[str]) -> None:
    """The benchmark's file with `model_prediction` in each object, for its own scorer."""
    rows = [item.raw | {PREDICTION: text} for item, text in zip(items, predictions, strict=True)]
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _bag(text: str) -> set[str]:
    return set(_WORDS.findall(text.lower()))
