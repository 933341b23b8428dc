"""From what the engine says of a window to the messages that are stored and published.

In: a `Window` and its `Analysis`. Out: `Rows` (transcripts, captions, events). Pure arithmetic and naming;
nothing is invented:
no words, no talk speed and no traits of a voice where no word was recognised, `null` where a value is not known.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from model.answers import ChoiceAnswer, Question, TextAnswer, Word
from streams.errors import Reject
from streams.loudness import loudness, talk_speed
from streams.messages import (
    Caption,
    Chunk,
    DeadLetter,
    Event,
    ModelRef,
    SessionEnd,
    SessionKey,
    Transcript,
    milliseconds,
    segment_id,
)
from streams.messages import Word as WireWord
from streams.windows import Track, Window
from workers.dialog import EVENT_TYPES, Finding
from workers.pool import Analysis, Poison
from workers.settings import SettingsError

TASKS = {
    Track.SPEECH: ("transcript", "questions:speech"),
    Track.SCENE: ("caption", "questions:scene"),
}
MEASURED = ("loudness", "talk_speed")  # of a window of speech, without the model


@dataclass(frozen=True, slots=True)
class Rows:
    """What one settled window adds to the store."""

    transcripts: tuple[Transcript, ...] = ()
    captions: tuple[Caption, ...] = ()
    events: tuple[Event, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()


def rows(window: Window, analysis: Analysis) -> Rows:
    """Messages for one analysed window. Raises Poison when the engine's answer does not fit the wire contract."""
    try:
        return _rows(window, analysis)
    except ValidationError as error:
        fields = sorted({".".join(map(str, e["loc"])) for e in error.errors()})  # names only: values are text
        raise Poison(f"the engine's answer does not fit the wire contract: {', '.join(fields)}") from None


def _rows(window: Window, analysis: Analysis) -> Rows:
    model = ModelRef(name=analysis.model_name, version=analysis.model_version)
    texts = [a for a in analysis.answers if isinstance(a, TextAnswer)]
    choices = [a for a in analysis.answers if isinstance(a, ChoiceAnswer)]
    if window.track is Track.SCENE:
        captions = tuple(_caption(window, a, model) for a in texts if a.task == "caption")
        return Rows(captions=captions, events=tuple(_choice(window, a, model) for a in choices))
    transcripts = tuple(_transcript(window, a, model) for a in texts if a.task == "transcript")
    text = " ".join(t.text for t in transcripts).strip()
    if not text:
        return Rows(transcripts=transcripts)
    return Rows(
        transcripts=transcripts,
        events=(*(_choice(window, a, model) for a in choices), *_measured(window, text)),
    )


def check_questions(questions: Iterable[Question]) -> None:
    """Refuse questions that ask for a kind of event that another one asks for, or that is measured.

    An event's id names its kind and where it starts: a window of speech and one of the scene may begin at the same
    sample, and of two events with one id only the first is stored. Raises SettingsError.
    """
    asked = [*MEASURED, *EVENT_TYPES, *(question.event_type for question in questions)]
    if twice := sorted(name for name, times in Counter(asked).items() if times > 1):
        raise SettingsError(
            "checkpoint: event_type %s stands for more than one question or measurement; each needs its own"
            % ", ".join(twice)
        )


def poisoned(window: Window, detail: str) -> Rows:
    """The dead letter of a window that no engine process survives, or that the model refuses."""
    return _refused(window, "poison", detail)


def shed(window: Window, detail: str) -> Rows:
    """The dead letter of a window that was left out because too much waited."""
    return _refused(window, "shed", detail)


def dead_letter(refused: Chunk | SessionEnd, reject: Reject, max_bytes: int) -> DeadLetter:
    """The dead letter of a parsed message, with its original bytes up to `max_bytes`."""
    payload = refused.payload if isinstance(refused, Chunk) else b""
    return DeadLetter(
        **_place(refused.key),
        reason=reject.reason,
        detail=reject.detail,
        topic=refused.origin.topic,
        partition=refused.origin.partition,
        offset=refused.origin.offset,
        content_type=refused.content_type if isinstance(refused, Chunk) else None,
        payload_b64=b64encode(payload[:max_bytes]).decode(),
        payload_size_bytes=len(payload),
        traceparent=refused.traceparent,
    )


def dialog_event(key: SessionKey, role: str | None, finding: Finding, traceparent: str | None) -> Event:
    """A dialog finding as an event; its label repeats the type, the figure is in `value` and `unit`."""
    return Event(
        **_place(key),
        channel=finding.channel,
        participant_role=role,
        segment_id=segment_id(key.session_id, finding.channel, finding.start),
        start_ms=milliseconds(finding.start),
        end_ms=milliseconds(finding.end),
        start_sample=finding.start,
        end_sample=finding.end,
        event_type=finding.event_type,
        label=finding.event_type,
        confidence=None,
        source="dsp",
        value=finding.value,
        unit=finding.unit,
        model=None,
        traceparent=traceparent,
    )


def _refused(window: Window, reason: str, detail: str) -> Rows:
    letter = DeadLetter(
        **_place(window.key),
        reason=reason,
        detail=detail,
        topic=window.origin.topic,
        partition=window.origin.partition,
        offset=window.origin.offset,
        channel=window.channel,
        track=str(window.track),
        start_ms=milliseconds(window.start_sample),
        end_ms=milliseconds(window.end_sample),
        start_sample=window.start_sample,
        end_sample=window.end_sample,
        traceparent=_trace(window),
    )
    return Rows(dead_letters=(letter,))


def _transcript(window: Window, answer: TextAnswer, model: ModelRef) -> Transcript:
    offset_ms = milliseconds(window.start_sample)
    words = None if answer.words is None else tuple(_word(w, offset_ms) for w in answer.words)
    return Transcript(
        **_segment_fields(window),
        text=answer.text,
        language=answer.language,
        confidence=answer.confidence,
        stability=None,
        words=words,
        timing_source=answer.timing_source,
        model=model,
    )


def _word(word: Word, offset_ms: int) -> WireWord:
    return WireWord(
        word=word.word,
        start_ms=offset_ms + word.start_ms,
        end_ms=offset_ms + word.end_ms,
        confidence=word.confidence,
    )


def _caption(window: Window, answer: TextAnswer, model: ModelRef) -> Caption:
    return Caption(
        **_segment_fields(window),
        text=answer.text,
        language=answer.language,
        confidence=answer.confidence,
        model=model,
    )


def _choice(window: Window, answer: ChoiceAnswer, model: ModelRef) -> Event:
    return Event(
        **_segment_fields(window),
        event_type=answer.event_type,
        label=answer.label,
        confidence=answer.probabilities[answer.label],
        source="model",
        value=None,
        unit=None,
        model=model,
    )


def _measured(window: Window, text: str) -> tuple[Event, ...]:
    """Loudness and talk speed, measured from the samples and the number of words, not asked of the model."""
    spoken = window.speech_end_sample - window.start_sample
    measures = (loudness(window.audio), talk_speed(len(text.split()), spoken))
    return tuple(
        Event(
            **_segment_fields(window),
            event_type=name,
            label=measure.label,
            confidence=None,
            source="dsp",
            value=measure.value,
            unit=measure.unit,
            model=None,
        )
        for name, measure in zip(MEASURED, measures, strict=True)
        if measure is not None
    )


def _segment_fields(window: Window) -> dict[str, Any]:
    return {
        **_place(window.key),
        "channel": window.channel,
        "participant_role": window.role,
        "segment_id": segment_id(window.key.session_id, window.channel, window.start_sample),
        "start_ms": milliseconds(window.start_sample),
        "end_ms": milliseconds(window.end_sample),
        "start_sample": window.start_sample,
        "end_sample": window.end_sample,
        "traceparent": _trace(window),
    }


def _place(key: SessionKey) -> dict[str, Any]:
    return {"tenant_id": key.tenant_id, "stream_id": key.stream_id, "session_id": key.session_id}


def _trace(window: Window) -> str | None:
    return window.traceparents[0] if window.traceparents else None
