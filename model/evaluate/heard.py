"""What an engine hears in references: texts, word times and confidences, by one of three ways.

In: an engine and references. Out: a `Heard` for each, and the error rates of many. Knows no corpus. Invariant: every
reference is heard and counted, also when nothing was recognised.

Ways: `joint` is what the service writes (CTC head and decoder choose together); `decoder` writes alone, greedily, where
the CTC head hears speech; `ctc` is the CTC head's likeliest path alone. A checkpoint without a CTC head has only its
decoder.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from model import ctc, transcript
from model.answers import Request, TextAnswer, Word
from model.engine import Engine
from model.evaluate import asr
from model.evaluate.asr import RATE_HZ, Audio, Reference
from model.evaluate.ears import embeddings
from model.evaluate.measures import Measure
from model.evaluate.text import Errors, errors
from model.tokenizer import clean

Way = Literal["joint", "decoder", "ctc"]
TOGETHER = 32  # references whose audio is in memory at a time


@dataclass(frozen=True)
class Piece:
    """What was heard in up to 30 s; word times count from the audio's beginning."""

    text: str
    confidence: float | None
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Heard:
    """`errors` is None for a reference that holds no word; `seconds` is how long the audio is."""

    reference: Reference
    pieces: tuple[Piece, ...]
    errors: Errors | None
    seconds: float

    @property
    def text(self) -> str:
        return " ".join(piece.text for piece in self.pieces if piece.text)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for piece in self.pieces for word in piece.words)


@dataclass(frozen=True)
class Listening:
    """All references of a set in their order; `spent_s` is the engine's time, files not counted."""

    heard: tuple[Heard, ...]
    spent_s: float

    @property
    def audio_s(self) -> float:
        return sum(one.seconds for one in self.heard)


def ways(engine: Engine) -> tuple[Way, ...]:
    """Those that a checkpoint has."""
    both = engine.config.ctc and engine.config.decoding.ctc_weight > 0
    return ("joint", "decoder", "ctc") if both else ("decoder", "ctc") if engine.config.ctc else ("decoder",)


def listen(engine: Engine, references: Iterable[Reference], way: Way | None = None) -> Listening:
    """Hear everything. Raises ValueError for a way that the checkpoint does not have."""
    way = way or ways(engine)[0]
    if way not in ways(engine):
        raise ValueError(f"{engine.name} has no way {way}: {', '.join(ways(engine))}")
    heard: list[Heard] = []
    spent_s = 0.0
    remaining = iter(references)
    with _by(engine, way):
        while batch := list(itertools.islice(remaining, TOGETHER)):
            audios = [asr.read_reference(reference) for reference in batch]
            parts = [asr.split(audio, engine.max_samples) for audio in audios]
            started_s = time.monotonic()
            pieces = iter(_hear(engine, [part for some in parts for part in some], way))
            spent_s += time.monotonic() - started_s
            for reference, audio, some in zip(batch, audios, parts, strict=True):
                heard.append(_join(reference, len(audio) / RATE_HZ, some, [next(pieces) for _ in some]))
    return Listening(tuple(heard), spent_s)


def word_errors(name: str, heard: Sequence[Heard], note: str = "") -> Measure:
    """Word error rate; of Mandarin, by the rule of `model.evaluate.text`, character error rate."""
    counted = [one.errors for one in heard if one.errors is not None]
    return Measure(
        name,
        "%",
        "lower",
        tuple(float(one.word_errors) for one in counted),
        tuple(float(one.words) for one in counted),
        note=note,
    )


def character_errors(name: str, heard: Sequence[Heard], note: str = "") -> Measure:
    """Character error rate of the normalised texts, spaces counted."""
    counted = [one.errors for one in heard if one.errors is not None]
    return Measure(
        name,
        "%",
        "lower",
        tuple(float(one.character_errors) for one in counted),
        tuple(float(one.characters) for one in counted),
        note=note,
    )


def transcript_confidences(heard: Sequence[Heard]) -> list[tuple[float, bool]]:
    """(confidence, whether no word is wrong) of each transcript that came in one piece and holds a word."""
    return [
        (one.pieces[0].confidence, one.errors.word_errors == 0)
        for one in heard
        if one.errors is not None and len(one.pieces) == 1 and one.pieces[0].text
        if one.pieces[0].confidence is not None
    ]


def word_confidences(heard: Sequence[Heard]) -> list[tuple[float, bool]]:
    """(confidence, whether it was said) of each word heard, words compared as spoken.

    Left out where the reference writes a number in digits: what was said there is not known.
    """
    found = []
    for one in heard:
        if any(character.isdigit() for character in one.reference.text):
            continue
        right = {index for _, index in matches(one)}
        found += [
            (word.confidence, index in right)
            for index, word in enumerate(one.words)
            if word.confidence is not None
        ]
    return found


def matches(heard: Heard) -> tuple[tuple[int, int], ...]:
    """(place in the reference, place among `heard.words`) of words that are equal as spoken."""
    said = errors(heard.reference.text, " ".join(word.word for word in heard.words), "spoken")
    return said.pairs if said is not None and len(said.heard) == len(heard.words) else ()


def _hear(engine: Engine, audios: Sequence[Audio], way: Way) -> list[Piece]:
    if way == "ctc":
        return [_path(engine, audio) for audio in audios]
    pieces = []
    for response in engine.run([Request("", audio, ("transcript",)) for audio in audios]):
        if response.error is not None:
            raise ValueError(response.error)
        (answer,) = response.answers
        assert isinstance(answer, TextAnswer)
        pieces.append(Piece(answer.text, answer.confidence, answer.words or ()))
    return pieces


def _path(engine: Engine, audio: Audio) -> Piece:
    """The CTC head's likeliest path."""
    log_probs_NV = engine.model.ctc_log_probs(embeddings(engine, audio)[None])[0].cpu()
    hearing = transcript.hear(log_probs_NV, engine.tokenizer.special_ids())
    if transcript.is_silent(hearing, engine.config):
        return Piece("", None, ())
    spans = ctc.align(log_probs_NV, hearing.ids)
    duration_ms = len(audio) * 1000 // RATE_HZ
    words = () if spans is None else ctc.words(engine.tokenizer, hearing.ids, spans, duration_ms)
    return Piece(clean(engine.tokenizer.decode(hearing.ids)), None, words)


def _join(reference: Reference, seconds: float, parts: Sequence[Audio], pieces: Sequence[Piece]) -> Heard:
    start_ms, moved = 0, []
    for part, piece in zip(parts, pieces, strict=True):
        words = tuple(
            dataclasses.replace(word, start_ms=word.start_ms + start_ms, end_ms=word.end_ms + start_ms)
            for word in piece.words
        )
        moved.append(dataclasses.replace(piece, words=words))
        start_ms += len(part) * 1000 // RATE_HZ
    text = " ".join(piece.text for piece in moved if piece.text)
    return Heard(reference, tuple(moved), errors(reference.text, text, reference.rule), seconds)


@contextmanager
def _by(engine: Engine, way: Way) -> Iterator[None]:
    """Have the engine's decoder write alone for a while: without a weight of CTC nothing is chosen together."""
    before = engine.analyst.config
    if way == "decoder":
        decoding = dataclasses.replace(before.decoding, ctc_weight=0.0)
        engine.analyst.config = dataclasses.replace(before, decoding=decoding)
    try:
        yield
    finally:
        engine.analyst.config = before
