"""Verifiable instructions of IFEval (arXiv 2311.07911): was the reply written as it was asked for?

In: a reply, ids of instructions and their arguments. Out: whether each was followed, strictly and loosely. Knows no
model. Invariant: an instruction that is not checked here is told as such, and its prompt is left out and counted; it
is never taken as followed.

Not checked, because the public checks lean on other programs: the language of a text (`langdetect`) and, with it, all
capitals or none *in English*; the number of sentences and of capitalised words (NLTK's tokenizers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]
UNSUPPORTED: Final = (
    "language:response_language",
    "length_constraints:number_sentences",
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
)


@dataclass(frozen=True)
class Followed:
    """One entry for each instruction of a prompt."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def unsupported(instructions: Sequence[str]) -> list[str]:
    """Those that are not checked here, unknown ones among them."""
    return [name for name in instructions if name not in CHECKS]


def judge(reply: str, instructions: Sequence[str], arguments: Sequence[Arguments]) -> Followed:
    """Raises ValueError for an instruction that is not checked here, or one without its arguments."""
    if missing := unsupported(instructions):
        raise ValueError(f"not checked: {', '.join(missing)}")
    strict, loose = [], []
    for name, given in zip(instructions, arguments, strict=True):
        known = {key: value for key, value in given.items() if value is not None}
        try:
            strict.append(_passes(reply, name, known))
            loose.append(any(_passes(text, name, known) for text in _relaxed(reply)))
        except KeyError as error:
            raise ValueError(f"{name} lacks its argument {error}") from None
    return Followed(tuple(strict), tuple(loose))


def _passes(text: str, name: str, arguments: Arguments) -> bool:
    return bool(text.strip()) and CHECKS[name](text, arguments)


def _relaxed(reply: str) -> list[str]:
    """The reply, without its first line, last line, both; each with and without asterisks."""
    lines = reply.split("\n")
    cut = [reply, *("\n".join(some).strip() for some in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


def _compare(count: int, relation: str, wanted: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"unknown relation {relation!r}")
    return count < wanted if relation == "less than" else count >= wanted


def _keywords(text: str, given: Arguments) -> bool:
    return all(re.search(word, text, re.IGNORECASE) for word in given["keywords"])


def _frequency(text: str, given: Arguments) -> bool:
    count = len(re.findall(given["keyword"].strip(), text, re.IGNORECASE))
    return _compare(count, given["relation"], given["frequency"])


def _forbidden(text: str, given: Arguments) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in given["forbidden_words"])


def _letters(text: str, given: Arguments) -> bool:
    count = text.lower().count(given["letter"].strip().lower())
    return _compare(count, given["let_relation"], given["let_frequency"])


def _words(text: str, given: Arguments) -> bool:
    return _compare(len(re.findall(r"\w+", text)), given["relation"], given["num_words"])


def _paragraphs(text: str, given: Arguments) -> bool:
    """Parts between `***`; the first and the last may be empty, none between them."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    inner = parts[1:-1]
    return all(inner) and sum(map(bool, parts)) == given["num_paragraphs"]


def _first_word(text: str, given: Arguments) -> bool:
    parts = text.split("\n\n")
    count, place = sum(bool(part.strip()) for part in parts), given["nth_paragraph"]
    if place > count or not (words := parts[place - 1].split()):
        return False
    first = re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0].lower()
    return bool(count == given["num_paragraphs"] and first == given["first_word"].lower())


def _placeholders(text: str, given: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(given["num_placeholders"])


def _postscript(text: str, given: Arguments) -> bool:
    marker = given["postscript_marker"].strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, marker.lower()), text.lower()) is not None


def _bullets(text: str, given: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(given["num_bullets"])


def _constrained(text: str, given: Arguments) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def _highlights(text: str, given: Arguments) -> bool:
    """Parts in single asterisks, and once more those in double ones, as the public check counts."""
    single = [part for part in re.findall(r"\*[^\n\*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", text) if part[2:-2].strip()]
    return len(single) + len(double) >= int(given["num_highlights"])


def _sections(text: str, given: Arguments) -> bool:
    marks = re.split(rf"\s?{given['section_spliter'].strip()}\s?\d+\s?", text)
    return len(marks) - 1 >= int(given["num_sections"])


def _json(text: str, given: Arguments) -> bool:
    bare = re.sub(r"^```(json|Json|JSON)?", "", text.strip()).removesuffix("```").strip()
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def _title(text: str, given: Arguments) -> bool:
    return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, given: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    said = [part for part in parts if part]
    return all(parts[1:-1]) and len(said) == 2 and said[0] != said[1]


def _repeat(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _end(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _no_comma(text: str, given: Arguments) -> bool:
    return "," not in text


def _quotation(text: str, given: Arguments) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


CHECKS: Final[Mapping[str, Check]] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "length_constraints:number_words": _words,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat,
    "startend:end_checker": _end,
    "startend:quotation": _quotation,
    "punctuation:no_comma": _no_comma,
}
