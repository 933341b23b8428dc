"""Out: the five kinds of result as versioned models and as Kafka records. The input side, `streams.wire`, is
re-exported.

A message is the same object in three places: a row in Postgres (all fields), JSON on a topic (fields marked
`exclude` stay in the row) and a CloudEvents id that anyone can recompute. Invariant: equal results have equal
ids and equal bytes; no clock enters either. Nothing here knows how to send or store.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streams.errors import EurekaError, Fenced, NotAllowed, Reject, Unavailable
from streams.topics import Topics
from streams.wire import (
    Chunk,
    Headers,
    Origin,
    Record,
    SessionEnd,
    SessionKey,
    chunk_headers,
    end_headers,
    known_key,
    parse,
)

__all__ = [
    "Alert",
    "Caption",
    "Chunk",
    "DeadLetter",
    "EurekaError",
    "Event",
    "Fenced",
    "Headers",
    "Match",
    "Message",
    "ModelRef",
    "NotAllowed",
    "Origin",
    "Outgoing",
    "Record",
    "Reject",
    "SessionEnd",
    "SessionKey",
    "Topics",
    "Transcript",
    "Unavailable",
    "Word",
    "chunk_headers",
    "dead_letter",
    "end_headers",
    "known_key",
    "milliseconds",
    "parse",
    "segment_id",
]

SOURCE: Final = "/eureka-stream"
SAMPLES_PER_MS: Final = 16

Sample = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
# Postgres text cannot hold NUL, and a byte-level tokenizer can produce it.
Text = Annotated[str, AfterValidator(lambda text: text.replace("\x00", ""))]


def milliseconds(sample: int) -> int:
    """Whole milliseconds of a 16 kHz position, rounded down."""
    return sample // SAMPLES_PER_MS


def segment_id(session_id: str, channel: int | None, start_sample: int) -> str:
    """Name of a window within its stream: `session:channel:start_sample`, channel `-` for a whole session."""
    return f"{session_id}:{_channel(channel)}:{start_sample}"


@dataclass(frozen=True)
class Outgoing:
    """A Kafka record ready to send."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelRef(_Wire):
    name: str
    version: str


class Word(_Wire):
    word: Text
    start_ms: int
    end_ms: int
    confidence: Probability | None = None


class Match(_Wire):
    phrase: Text
    start_ms: int
    end_ms: int


class _Result(_Wire):
    """What transcripts, captions, events and alerts share. Samples are 16 kHz positions in the session."""

    ce_type: ClassVar[str]
    kind: ClassVar[str]

    tenant_id: str
    stream_id: str
    session_id: str
    channel: int | None
    participant_role: str | None = None
    segment_id: str
    revision: Annotated[int, Field(ge=0)] = 0
    run_id: str = "live"
    start_ms: int
    end_ms: int
    start_sample: Sample = Field(exclude=True)
    end_sample: Sample = Field(exclude=True)
    traceparent: str | None = Field(default=None, exclude=True)

    @property
    def label_part(self) -> str:
        raise NotImplementedError

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.tenant_id, self.stream_id, self.session_id)

    @property
    def ce_id(self) -> str:
        """`tenant:stream:session:channel:kind:label:start_sample:revision:run`, each part escaped."""
        parts = (
            self.tenant_id,
            self.stream_id,
            self.session_id,
            _channel(self.channel),
            self.kind,
            self.label_part,
            f"{self.start_sample}",
            f"{self.revision}",
            self.run_id,
        )
        return ":".join(_escape(part) for part in parts)

    def _record(self, topic: str) -> Outgoing:
        headers = _headers(self.ce_type, self.ce_id, self.key, self.traceparent)
        return Outgoing(topic, self.stream_id.encode(), self.model_dump_json().encode(), headers)


class Transcript(_Result):
    """What was said in one window of one channel."""

    ce_type: ClassVar[str] = "audio.transcript.v1"
    kind: ClassVar[str] = "transcript"

    channel: int
    is_final: bool = True
    text: Text
    language: str | None = None
    confidence: Probability | None = None
    stability: Probability | None = None
    words: tuple[Word, ...] | None = None
    timing_source: str | None = None
    model: ModelRef

    @property
    def label_part(self) -> str:
        return "speech"

    def outgoing(self, topics: Topics) -> Outgoing:
        return self._record(topics.transcripts)


class Caption(_Result):
    """What one window of the scene track sounds like."""

    ce_type: ClassVar[str] = "audio.caption.v1"
    kind: ClassVar[str] = "caption"

    channel: int
    text: Text
    language: str | None = None
    confidence: Probability | None = None
    model: ModelRef

    @property
    def label_part(self) -> str:
        return "scene"

    def outgoing(self, topics: Topics) -> Outgoing:
        return self._record(topics.captions)


class Event(_Result):
    """One answer about one window: `event_type` asks, `label` answers; `model` is None for dsp."""

    ce_type: ClassVar[str] = "audio.event.v1"
    kind: ClassVar[str] = "event"

    event_type: str
    label: str
    confidence: Probability | None = None
    source: Literal["model", "dsp"]
    value: FiniteFloat | None = None
    unit: str | None = None
    model: ModelRef | None = None

    @property
    def label_part(self) -> str:
        return self.event_type

    def outgoing(self, topics: Topics) -> Outgoing:
        return self._record(topics.events)


class Alert(_Result):
    """A rule that matched, or with `negate` one that should have and did not."""

    ce_type: ClassVar[str] = "audio.alert.v1"
    kind: ClassVar[str] = "alert"

    rule_id: str
    category: str
    negate: bool = False
    matches: tuple[Match, ...] = ()

    @property
    def label_part(self) -> str:
        return self.rule_id

    def outgoing(self, topics: Topics) -> Outgoing:
        return self._record(topics.alerts)


class DeadLetter(_Wire):
    """Input that cannot become a result, with its place in Kafka and its bytes up to a limit.

    One row per (topic, partition, offset, channel or -1, track or "", start_sample or -1): a record that is refused
    gives one, and of a record's audio each window that is refused. Samples are at 16 kHz.
    """

    ce_type: ClassVar[str] = "audio.deadletter.v1"
    kind: ClassVar[str] = "deadletter"

    reason: str
    detail: Text
    topic: str
    partition: int
    offset: int
    tenant_id: str | None = None
    stream_id: str | None = None
    session_id: str | None = None
    channel: int | None = None
    track: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    start_sample: Sample | None = Field(default=None, exclude=True)
    end_sample: Sample | None = Field(default=None, exclude=True)
    content_type: str | None = None
    payload_b64: str | None = None
    payload_size_bytes: int | None = None
    traceparent: str | None = Field(default=None, exclude=True)

    @property
    def row_key(self) -> tuple[str, int, int, int, str, int]:
        channel = -1 if self.channel is None else self.channel
        start = -1 if self.start_sample is None else self.start_sample
        return (self.topic, self.partition, self.offset, channel, self.track or "", start)

    @property
    def ce_id(self) -> str:
        """`topic:partition:offset:channel:track:start_sample`, each part escaped, `-` where there is none."""
        start = "-" if self.start_sample is None else f"{self.start_sample}"
        parts = (
            self.topic,
            f"{self.partition}",
            f"{self.offset}",
            _channel(self.channel),
            self.track or "-",
            start,
        )
        return ":".join(_escape(part) for part in parts)

    def outgoing(self, topics: Topics) -> Outgoing:
        key = None
        if self.tenant_id is not None and self.stream_id is not None and self.session_id is not None:
            key = SessionKey(self.tenant_id, self.stream_id, self.session_id)
        record_key = self.stream_id if self.stream_id is not None else f"{self.topic}:{self.partition}"
        headers = _headers(self.ce_type, self.ce_id, key, self.traceparent)
        return Outgoing(topics.deadletters, record_key.encode(), self.model_dump_json().encode(), headers)


Message = Transcript | Caption | Event | Alert | DeadLetter


def dead_letter(record: Record, reject: Reject, *, max_payload_bytes: int) -> DeadLetter:
    """The dead letter of a record as Kafka delivered it, with at most `max_payload_bytes` of its value."""
    key = known_key(record)
    found = {name.lower(): value for name, value in record.headers}
    content_type = found.get("content-type")
    value = record.value
    return DeadLetter(
        reason=reject.reason,
        detail=reject.detail,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        tenant_id=key.tenant_id if key else None,
        stream_id=key.stream_id if key else None,
        session_id=key.session_id if key else None,
        content_type=_printable(content_type[:200]) if content_type is not None else None,
        payload_b64=base64.b64encode(value[:max_payload_bytes]).decode() if value is not None else None,
        payload_size_bytes=len(value) if value is not None else None,
    )


def _headers(ce_type: str, ce_id: str, key: SessionKey | None, traceparent: str | None) -> Headers:
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", SOURCE.encode()),
        ("ce_id", ce_id.encode()),
        ("content-type", b"application/json"),
    ]
    if key is not None:
        headers += [
            ("ce_tenant", key.tenant_id.encode()),
            ("ce_streamid", key.stream_id.encode()),
            ("ce_sessionid", key.session_id.encode()),
        ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace(":", "%3A")


def _channel(channel: int | None) -> str:
    return "-" if channel is None else f"{channel}"


def _printable(value: bytes) -> str:
    return value.decode("ascii", errors="replace").replace("\x00", "")
