"""Results have ids that anyone can recompute and JSON with exactly the fields of the contract."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import ValidationError

from streams.messages import (
    Alert,
    Caption,
    DeadLetter,
    Event,
    Match,
    ModelRef,
    Record,
    Reject,
    Topics,
    Transcript,
    Word,
    chunk_headers,
    dead_letter,
    milliseconds,
    segment_id,
)
from streams.wire import SessionKey

PLACE: dict[str, Any] = {
    "tenant_id": "acme",
    "stream_id": "call:1",
    "session_id": "50%",
    "channel": 1,
    "participant_role": "agent",
    "segment_id": segment_id("50%", 1, 16_000),
    "start_ms": milliseconds(16_000),
    "end_ms": milliseconds(48_007),
    "start_sample": 16_000,
    "end_sample": 48_007,
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
MODEL = ModelRef(name="nano", version="1")
SHARED = {
    "tenant_id",
    "stream_id",
    "session_id",
    "channel",
    "participant_role",
    "segment_id",
    "revision",
    "run_id",
}
SHARED |= {"start_ms", "end_ms"}
TRANSCRIPT = Transcript(
    **PLACE,
    text="hello",
    words=(Word(word="hello", start_ms=1000, end_ms=1400),),
    timing_source="ctc",
    model=MODEL,
)
CAPTION = Caption(**PLACE, text="music", model=MODEL)
EVENT = Event(**PLACE, event_type="emotion", label="calm", source="model", confidence=0.9, model=MODEL)
ALERT = Alert(**PLACE, rule_id="r1", category="risk", matches=(Match(phrase="hello", start_ms=1, end_ms=2),))


@pytest.mark.parametrize(
    ("message", "ce_id", "topic", "ce_type", "own"),
    [
        (
            TRANSCRIPT,
            "acme:call%3A1:50%25:1:transcript:speech:16000:0:live",
            "audio.transcripts",
            "audio.transcript.v1",
            {"is_final", "text", "language", "confidence", "stability", "words", "timing_source", "model"},
        ),
        (
            CAPTION,
            "acme:call%3A1:50%25:1:caption:scene:16000:0:live",
            "audio.captions",
            "audio.caption.v1",
            {"text", "language", "confidence", "model"},
        ),
        (
            EVENT,
            "acme:call%3A1:50%25:1:event:emotion:16000:0:live",
            "audio.events",
            "audio.event.v1",
            {"event_type", "label", "confidence", "source", "value", "unit", "model"},
        ),
        (
            ALERT,
            "acme:call%3A1:50%25:1:alert:r1:16000:0:live",
            "audio.alerts",
            "audio.alert.v1",
            {"rule_id", "category", "negate", "matches"},
        ),
    ],
)
def test_results_on_the_wire(message: Any, ce_id: str, topic: str, ce_type: str, own: set[str]) -> None:
    sent = message.outgoing(Topics())
    headers = dict(sent.headers)
    assert message.ce_id == ce_id
    assert (sent.topic, sent.key) == (topic, b"call:1")
    assert headers["ce_id"] == ce_id.encode()
    assert headers["ce_type"] == ce_type.encode()
    assert headers["content-type"] == b"application/json"
    assert headers["traceparent"] == PLACE["traceparent"].encode()
    value = json.loads(sent.value)
    assert set(value) == SHARED | own
    assert (value["start_ms"], value["end_ms"]) == (1000, 3000)
    assert sent == message.outgoing(Topics())


def test_topics_take_a_prefix() -> None:
    assert TRANSCRIPT.outgoing(Topics.with_prefix("test-")).topic == "test-audio.transcripts"


def test_an_event_of_the_whole_session_has_no_channel() -> None:
    event = Event(
        **PLACE | {"channel": None},
        event_type="overtalk",
        label="overtalk",
        source="dsp",
        value=1.5,
        unit="s",
    )
    assert event.ce_id == "acme:call%3A1:50%25:-:event:overtalk:16000:0:live"


def test_messages_refuse_what_cannot_be_stored() -> None:
    with pytest.raises(ValidationError):
        Transcript(**PLACE, text="x", confidence=1.5, model=MODEL)
    with pytest.raises(ValidationError):
        Event(**PLACE, event_type="e", label="l", source="dsp", value=float("nan"))
    with pytest.raises(ValidationError):
        Transcript(**PLACE, text="x", model=MODEL, speaker="me")  # type: ignore[call-arg]
    assert Transcript(**PLACE, text="a\x00b", model=MODEL).text == "ab"


def test_a_dead_letter_keeps_the_place_and_the_bytes_up_to_a_limit() -> None:
    key = SessionKey("acme", "call:1", "50%")
    headers = tuple(chunk_headers(key, 0, 0, "audio/x-new", source="/pbx"))
    record = Record("audio.chunks", 2, 99, b"call:1", b"0123456789", headers, 0)
    letter = dead_letter(record, Reject("codec", "not spoken"), max_payload_bytes=4)
    assert letter.row_key[:5] == ("audio.chunks", 2, 99, -1, "")
    assert base64.b64decode(letter.payload_b64 or "") == b"0123"
    assert (letter.payload_size_bytes, letter.content_type, letter.tenant_id) == (10, "audio/x-new", "acme")
    assert letter.ce_id.startswith("audio.chunks:2:99:-:-")
    assert letter.outgoing(Topics()).key == b"call:1"


def test_a_dead_letter_of_an_unreadable_record_is_still_sent() -> None:
    record = Record("audio.chunks", 2, 99, None, None, (("content-type", b"\xff\x00"),), 0)
    letter = dead_letter(record, Reject("missing_header", "ce_id"), max_payload_bytes=4)
    assert (letter.stream_id, letter.payload_b64) == (None, None)
    sent = letter.outgoing(Topics())
    assert sent.key == b"audio.chunks:2"
    assert DeadLetter.model_validate_json(sent.value) == letter
