"""What goes round in the loop: a clip, its caption, an item (a multiple-choice question), answers and a verdict.

In: what models and scenes say. Out: frozen values. Knows no model and no file. Invariant: everything but a clip can be
written as JSON and read back equal (`plain`, `restored`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

T = TypeVar("T")
Samples = npt.NDArray[np.int16]
Consistency = Literal["STRONG_MATCH", "WEAK_MATCH", "CONFLICT"]
Action = Literal["KEEP_USING_WINNER", "DISCARD"]
LETTERS = "ABCDEFGH"
OPTIONS = 4
MODELS = "ABCDEFGH"  # at most so many models answer
TIE, NONE = "TIE", "NONE"


@dataclass(frozen=True)
class Caption:
    """What a clip sounds like. `facts` (aspect → value) where all of it is known exactly, as for a made scene."""

    text: str
    facts: dict[str, str] | None = None


@dataclass(frozen=True)
class Item:
    """A question with four options. `aspect` and `values` say what it asks for and what each option means, if known."""

    text: str
    options: tuple[str, ...]
    key: int
    category: str
    aspect: str | None = None
    values: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Answer:
    """The chosen option and why. None: this model says that it cannot tell."""

    choice: int | None
    trace: str


@dataclass(frozen=True)
class Verdict:
    """The judge's fields as the paper names them (arXiv 2602.13954, section 5.1). `winner`: MODEL_A, …, TIE or NONE."""

    consensus: bool
    consistency_with_caption: Consistency
    winner: str
    reasoning: str
    final_action: Action


@dataclass(frozen=True)
class Written:
    """The items of a clip that follow the rules, and how many did not, by rule."""

    items: tuple[Item, ...]
    rejected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Material:
    """16 kHz mono int16 `[n]`; for a made scene its caption, known exactly, and the data cards of what is in it."""

    audio: Samples
    truth: Caption | None = None
    cards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Clip:
    """One piece of raw audio, loaded when its turn comes. `category`: what its source files it under, if anything."""

    name: str
    load: Callable[[], Material]
    source: str
    licence: str
    language: str | None = None
    category: str | None = None
    path: Path | None = None  # None: made on the spot
    start_s: float = 0.0  # in the file
    extra: dict[str, Any] = field(default_factory=dict)  # of its origin, passed on to what is written


@dataclass(frozen=True)
class Origin:
    """What is written of a clip beside its items: where its audio lies, whose it is, what may be done with it."""

    audio: str  # relative to the run's folder where it lies there
    seconds: float
    source: str
    licence: str
    start: float = 0.0  # seconds; with `end` the part of the audio that is meant
    end: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def model_name(index: int) -> str:
    """How the judge knows a model: MODEL_A, MODEL_B, …"""
    return f"MODEL_{MODELS[index]}"


def plain(value: Any) -> Any:
    """The JSON of one of these values."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def restored(kind: type[T], value: Any) -> T:
    """The value that `plain` wrote. Raises ValueError (pydantic's) for anything else."""
    return TypeAdapter(kind).validate_python(value)
