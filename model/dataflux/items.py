"""The rules that every question must follow, whoever wrote it, and where its right option comes to stand.

In: an item. Out: which rule it breaks, or the item with its options in a drawn order. Knows no model. Invariants: four
different options; nothing but listening is needed (no word about a caption or a text); the right option is not in the
question; its place is drawn from the clip's name, so a run that is repeated places it alike.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from typing import TypeVar

from model.dataflux.values import LETTERS, OPTIONS, Item

T = TypeVar("T")
MAX_QUESTION_CHARS = 300
MAX_OPTION_CHARS = 120
_TEXT_WORDS = re.compile(
    r"\b(captions?|descriptions?|transcripts?|transcriptions?|the text|annotations?|metadata|taxonomy|file ?names?|"
    r"according to|as (mentioned|stated|described|noted)|(mentioned|stated|described) (above|below|in the text))\b",
    re.IGNORECASE,
)
_EVASIONS = re.compile(r"\b(all|none|both|neither) of (the|these) (above|options|following)\b", re.IGNORECASE)
_NOT_WORDS = re.compile(r"[^\w']+")


def broken_rule(item: Item, categories: frozenset[str]) -> str | None:
    """The name of the first rule that this item breaks; None when it may be asked."""
    options = [_words(option) for option in item.options]
    asked = _words(item.text)
    checks = {
        "four_options": len(options) == OPTIONS and 0 <= item.key < len(options) and all(options),
        "options_differ": len(set(options)) == len(options),
        "one_question": item.text.strip().endswith("?") and len(item.text) <= MAX_QUESTION_CHARS,
        "short_options": all(len(option) <= MAX_OPTION_CHARS for option in item.options),
        "by_listening": not any(_TEXT_WORDS.search(text) for text in (item.text, *item.options)),
        "no_evasion": not any(_EVASIONS.search(option) for option in item.options),
        "known_category": item.category in categories,
    }
    for rule, kept in checks.items():
        if not kept:
            return rule
    return "key_in_question" if f" {options[item.key]} " in f" {asked} " else None


def placed(item: Item, clip: str, number: int, seed: int) -> Item:
    """The same item with its options in an order drawn from clip, number and seed."""
    order = drawn(list(range(len(item.options))), clip, number, seed)
    values = None if item.values is None else tuple(item.values[i] for i in order)
    return dataclasses.replace(
        item, options=tuple(item.options[i] for i in order), key=order.index(item.key), values=values
    )


def drawn(things: list[T], clip: str, number: int, seed: int) -> list[T]:
    """The same things in an order that follows from clip, number and seed."""
    digest = hashlib.sha256(f"{seed}/{number}/{clip}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big")).sample(things, len(things))


def lines(item: Item) -> str:
    """The options as the released model is asked them: `A. …` on lines of their own."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False))


def _words(text: str) -> str:
    return _NOT_WORDS.sub(" ", text.lower()).strip()
