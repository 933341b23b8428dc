"""From what a model wrote to values: strict, because what slips through here becomes training data.

In: the text of a reply. Out: a caption, a category, items, an answer, a verdict; or Unusable with its reason. Knows no
endpoint. Invariant: nothing is repaired but the wrapping (thoughts, code fences, words around the object).
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from model.dataflux.errors import Unusable
from model.dataflux.items import broken_rule, plain
from model.dataflux.values import (
    LETTERS,
    NONE,
    TIE,
    Action,
    Answer,
    Consistency,
    Item,
    Verdict,
    Written,
    model_name,
)

M = TypeVar("M", bound=BaseModel)
MIN_CAPTION_CHARS = 20
MAX_TEXT_CHARS = 8000
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
_REFUSAL = re.compile(
    r"\s*(i'?m (very )?sorry|i am sorry|sorry[,.]|i can(not|'t|’t) |i(’|')?m (not able|unable)|i am (not able|unable)|"
    r"as an ai|unfortunately,? i)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\s*\(?([A-Ha-h])\s*[.):]?\s*")


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Category(_Reply):
    match: bool
    category: str | None
    reason: str = ""


class _Question(_Reply):
    question: str
    options: list[str]
    answer: str
    category: str


class _Questions(_Reply):
    questions: list[dict[str, Any]]


class _Answer(_Reply):
    reasoning: str
    answer: str


class _Verdict(_Reply):
    consensus: bool
    consistency_with_caption: Consistency
    winner: str
    reasoning: str
    final_action: Literal["KEEP_USING_WINNER", "DISCARD"]


def caption(text: str) -> str:
    """A description in prose. Raises Unusable: refusal, empty."""
    bare = " ".join(_THOUGHTS.sub(" ", text).split())
    if _REFUSAL.match(bare):
        raise Unusable("refusal", reply=text)
    if len(bare) < MIN_CAPTION_CHARS:
        raise Unusable("empty", f"fewer than {MIN_CAPTION_CHARS} characters", reply=text)
    if not plain(bare):
        raise Unusable("schema", "special tokens or broken characters")
    return bare[:MAX_TEXT_CHARS]


def category(text: str, categories: tuple[str, ...]) -> str:
    """The category that caption and clip agree on. Raises Unusable; category_mismatch and no_category are final."""
    found = _object(text, _Category)
    if found.category is None:
        raise Unusable("no_category", again=False)
    if found.category not in categories:
        raise Unusable("schema", "the category is no line of the taxonomy", reply=text)
    if not found.match:
        raise Unusable("category_mismatch", again=False)
    return found.category


def items(text: str, categories: tuple[str, ...], most: int) -> Written:
    """At most `most` items that follow the rules. Raises Unusable when there is none."""
    kept: list[Item] = []
    rejected: dict[str, int] = {}
    seen: set[str] = set()
    for raw in _object(text, _Questions).questions:
        rule: str | None = "schema"
        try:
            one = _Question.model_validate(raw)
            item = Item(one.question.strip(), tuple(o.strip() for o in one.options), -1, one.category)
            key = _letter(one.answer, len(item.options))
            if key is not None:
                item = Item(item.text, item.options, key, item.category)
                rule = broken_rule(item, frozenset(categories))
        except ValidationError:
            pass
        if rule is None and item.text.lower() in seen:
            rule = "asked_twice"
        if rule is None and len(kept) == most:
            rule = "too_many"
        if rule is not None:
            rejected[rule] = rejected.get(rule, 0) + 1
            continue
        seen.add(item.text.lower())
        kept.append(item)
    if not kept:
        broken = ", ".join(sorted(rejected)) or "no question at all"
        raise Unusable("no_valid_question", broken, reply=text)
    return Written(tuple(kept), rejected)


def answer(text: str, options: int) -> Answer:
    """A letter and its trace. Raises Unusable."""
    found = _object(text, _Answer)
    choice = _letter(found.answer, options)
    if choice is None:
        raise Unusable("schema", f"the answer is no letter from A to {LETTERS[options - 1]}", reply=text)
    if not found.reasoning.strip():
        raise Unusable("schema", "no reasoning", reply=text)
    return Answer(choice, found.reasoning.strip()[:MAX_TEXT_CHARS])


def verdict(text: str, answers: dict[str, Answer]) -> Verdict:
    """A verdict whose fields fit one another and the answers (by MODEL_A, …). Raises Unusable."""
    found = _object(text, _Verdict)
    read = Verdict(
        consensus=found.consensus,
        consistency_with_caption=found.consistency_with_caption,
        winner=found.winner,
        reasoning=found.reasoning.strip()[:MAX_TEXT_CHARS],
        final_action=found.final_action,
    )
    if wrong := contradiction(read, answers):
        raise Unusable("contradiction", wrong, reply=text)
    return read


def contradiction(read: Verdict, answers: dict[str, Answer]) -> str | None:
    """What of a verdict cannot be so, given the answers; None when all of it can."""
    keep: Action = "KEEP_USING_WINNER"
    choices = [one.choice for one in answers.values()]
    if read.winner not in (*answers, TIE, NONE):
        return "the winner is none of the models, TIE or NONE"
    if read.consensus != (len(set(choices)) == 1):
        return "consensus does not say whether all chose the same option"
    if read.final_action == keep and (read.winner == NONE or read.consistency_with_caption == "CONFLICT"):
        return "nothing is kept without a winner or against the description"
    if read.winner == TIE and len(set(choices)) == len(choices):
        return "a tie between different options"
    return None


def chosen(read: Verdict, answers: dict[str, Answer]) -> int | None:
    """The option that the winner chose; of a tie, the one that most chose. None without a winner."""
    if read.winner == NONE:
        return None
    if read.winner != TIE:
        return answers[read.winner].choice
    choices = [one.choice for one in answers.values()]
    return max(sorted({c for c in choices if c is not None}), key=choices.count)


def told(answers: dict[str, Answer]) -> str:
    """What the judge reads of the answers."""
    return "\n\n".join(
        f"{name} chose {LETTERS[one.choice] if one.choice is not None else '-'}. Reasoning: {one.trace}"
        for name, one in answers.items()
    )


def names(count: int) -> tuple[str, ...]:
    """MODEL_A, MODEL_B, …"""
    return tuple(model_name(index) for index in range(count))


def _letter(text: str, options: int) -> int | None:
    found = _LETTER.fullmatch(text)
    index = LETTERS.index(found[1].upper()) if found else options
    return index if index < options else None


def _object(text: str, kind: type[M]) -> M:
    """The JSON object of a reply. Raises Unusable: refusal, empty, not_json, schema."""
    bare = _THOUGHTS.sub(" ", text)
    start, end = bare.find("{"), bare.rfind("}")
    if start < 0:
        reason = "refusal" if _REFUSAL.match(bare) else "not_json" if bare.strip() else "empty"
        raise Unusable(reason, reply=text)
    try:
        raw = json.loads(bare[start : end + 1])
        found = kind.model_validate(raw)
        found.model_dump_json()  # fails for characters that no file can hold
        return found
    except ValidationError as error:
        places = sorted({".".join(map(str, one["loc"])) for one in error.errors()})  # names, never values
        raise Unusable("schema", ", ".join(places)[:200], reply=text) from None
    except (ValueError, RecursionError):
        raise Unusable("not_json", reply=text[:MAX_TEXT_CHARS]) from None
