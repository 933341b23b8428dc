"""What is asked of the engine and what it answers: plain data, importable without torch.

In: 16 kHz int16 audio and task names. Out: texts and choice probabilities. Knows no model and no process.
Invariant: everything but a request's audio can be written as JSON and read back equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.config import Question

__all__ = ["Answer", "ChoiceAnswer", "Question", "Request", "Response", "TextAnswer", "Word"]


@dataclass(frozen=True, eq=False)
class Request:
    """One window of audio `int16 [n]` at 16 kHz and what is asked of it.

    Tasks: "transcript", "caption", "question:<name>"; "questions:speech" and "questions:scene" stand for all
    questions of that track. The engine must not keep `audio` (it may lie in shared memory) nor write to it.
    `due_s` orders requests that wait, the smallest first; it is on no clock of the engine's and drops nothing.
    """

    request_id: str
    audio: npt.NDArray[np.int16]
    tasks: tuple[str, ...]
    due_s: float = 0.0


@dataclass(frozen=True)
class Word:
    """A word and where it lies, in milliseconds after the window's first sample."""

    word: str
    start_ms: int
    end_ms: int
    confidence: float | None


@dataclass(frozen=True)
class TextAnswer:
    """A transcript or a caption. `timing_source` is "ctc" when `words` carry aligned times, else None."""

    task: str
    text: str
    language: str | None
    confidence: float | None
    words: tuple[Word, ...] | None
    timing_source: str | None


@dataclass(frozen=True)
class ChoiceAnswer:
    """The likeliest choice of a closed-set question and the probability of every choice."""

    task: str
    question: str
    event_type: str
    label: str
    probabilities: dict[str, float]


Answer = TextAnswer | ChoiceAnswer


@dataclass(frozen=True)
class Response:
    """All answers to one request. `error` is set when this request alone failed; then there are no answers."""

    request_id: str
    answers: tuple[Answer, ...]
    error: str | None
