"""Manifests of training data: JSON lines that say which audio, what is asked of it, and what the right answer is.

In: `*.jsonl` files. Out: `Sample` records, and back. Knows no model and opens no audio.
Invariant: a manifest is read whole or not at all: the first bad line is an error with its file and line number; a line
without a licence is bad.

One JSON object per line; these fields and no others:

- `audio`: path of a sound file, absolute or relative to the manifest's folder.
- `task`: `asr`; `caption`; `paralinguistic` (how it sounds: voice, pace, emotion, line, background, events);
  `semantic` (what is said and meant).
- `prompt`: what the user's turn says after the audio; "" for the model's own form (`asr` and `caption` only).
- `answer`: what the model shall say. With `choices` it is one of them, spelled the same (the model learns its letter,
  A, B, …). "" only for `asr`: nobody speaks.
- `language`: of the answer, as an ISO 639 code: `en`, `zh`.
- `licence`: of the audio and the text, such as `CC-BY-4.0`.
- `choices` (optional): 2 to 26 different texts, for `paralinguistic` and `semantic`.
- `source` (optional): where it comes from: a corpus, a program, a step.
- `start`, `end` (optional): seconds; the part of the audio that is meant, at most 30 s.

Several lines may ask about the same audio: the window is encoded once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from model.tokenizer import SPECIAL_TOKENS

Task = Literal["asr", "paralinguistic", "semantic", "caption"]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=False, pattern=r"\S")]
LONGEST_S = 30.0
NO_LICENCE = ("unknown", "none", "n/a", "?")


class ManifestError(ValueError):
    """A manifest cannot be used; the message names the file, the line and what is wrong with it."""


class Sample(BaseModel):
    """One line of a manifest (fields: see the module); `audio` is absolute after `read`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    audio: Path
    task: Task
    prompt: str
    answer: str
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
    licence: Text
    choices: Annotated[tuple[Text, ...], Field(max_length=26)] = ()
    source: str = ""
    start: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None

    @property
    def is_question(self) -> bool:
        return self.task in ("paralinguistic", "semantic")

    @property
    def window(self) -> tuple[Path, float, float | None]:
        """What is heard: samples with the same window share their audio."""
        return self.audio, self.start, self.end

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.licence.strip().lower() in NO_LICENCE:
            raise ValueError("licence: the licence must be known")
        if self.is_question and not self.prompt.strip():
            raise ValueError(f"prompt: a {self.task} line must ask something")
        if self.task != "asr" and not self.answer.strip():
            raise ValueError("answer: only an asr line may have an empty answer")
        if self.choices:
            if not self.is_question:
                raise ValueError(f"choices: a {self.task} line has none")
            if len(self.choices) < 2 or len(set(self.choices)) < len(self.choices):
                raise ValueError("choices: at least two, all different")
            if self.answer not in self.choices:
                raise ValueError("answer: it must be one of the choices")
        if self.end is not None and not 0.0 < self.end - self.start <= LONGEST_S:
            raise ValueError(f"end: after start, by at most {LONGEST_S:.0f} s")
        for text in (self.prompt, self.answer, *self.choices):
            if any(token in text for token in SPECIAL_TOKENS):
                raise ValueError("a text spells one of the model's special tokens")
        return self


def read(path: Path) -> list[Sample]:
    """All samples of a manifest, in order. Raises ManifestError for the first bad line, and for an empty file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    samples = [_sample(path, number, line) for number, line in enumerate(lines, 1)]
    if not samples:
        raise ManifestError(f"{path}: no line in it")
    return samples


def _sample(path: Path, number: int, line: str) -> Sample:
    try:
        sample = Sample.model_validate_json(line)
    except ValidationError as error:
        what = "; ".join(
            ".".join(str(part) for part in problem["loc"]) + (": " if problem["loc"] else "") + problem["msg"]
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ManifestError(f"{path}:{number}: {what}") from error
    audio = sample.audio if sample.audio.is_absolute() else path.parent.absolute() / sample.audio
    if not audio.is_file():
        raise ManifestError(f"{path}:{number}: audio: no file at {audio}")
    return sample.model_copy(update={"audio": audio})


def write(path: Path, samples: Iterable[Sample]) -> int:
    """Write a manifest, replacing `path` in one step; audio below its folder is named relative to it.

    Returns how many lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        for sample in samples:
            folder = path.parent.absolute()
            near = sample.audio.is_absolute() and sample.audio.is_relative_to(folder)
            audio = sample.audio.relative_to(folder) if near else sample.audio
            file.write(
                sample.model_copy(update={"audio": audio}).model_dump_json(exclude_defaults=True) + "\n"
            )
            count += 1
    os.replace(partial, path)
    return count


def by_window(samples: Iterable[Sample]) -> list[Sequence[Sample]]:
    """The samples of each window, windows in the order of their first sample."""
    found: dict[tuple[Path, float, float | None], list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.window, []).append(sample)
    return list(found.values())
