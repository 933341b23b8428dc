"""In: a Kafka record of the topic `audio.chunks`. Out: a Chunk or a SessionEnd, or Reject; and the headers.

CloudEvents 1.0 in Kafka's binary mode: attributes are headers `ce_*`, the audio bytes are the value, the key
is the stream id. Codecs are not known here: `content_type` and `payload` pass unread. It keeps one
invariant: whatever comes out can be stored (bounded lengths, no NUL, integers that fit 64 bits at 16 kHz).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from streams.errors import Reject

CHUNK_TYPE: Final = "audio.chunk.v1"
END_TYPE: Final = "audio.end.v1"
DEFAULT_TENANT: Final = "default"
DEFAULT_SESSION: Final = "0"
MAX_ID_CHARS: Final = 200
MAX_ID_BYTES: Final = 256  # Postgres holds three ids in one GiST entry, twice over in an inner one of 8 KiB
MAX_SOURCE_CHARS: Final = 1000
MAX_ROLES: Final = 64
MAX_NUMBER: Final = 1 << 53  # times 16000 / 4000 still fits a 64-bit range in Postgres
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in Kafka something came from."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One start of one producer of one stream."""

    tenant_id: str
    stream_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Record:
    """What Kafka delivered, unread."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    @property
    def origin(self) -> Origin:
        return Origin(self.topic, self.partition, self.offset)


@dataclass(frozen=True)
class Chunk:
    """One piece of a session's audio, still encoded; `start_sample` counts at the chunk's own rate."""

    key: SessionKey
    sequence: int
    start_sample: int
    content_type: str
    payload: bytes
    roles: tuple[str, ...] | None
    ce_id: str
    source: str
    captured_at: datetime | None
    traceparent: str | None
    origin: Origin


@dataclass(frozen=True)
class SessionEnd:
    """The producer says that a session is over; `sequence` is the one after the last chunk's, where given."""

    key: SessionKey
    sequence: int | None
    ce_id: str
    traceparent: str | None
    origin: Origin


def parse(record: Record, max_bytes: int) -> Chunk | SessionEnd:
    """Read one record of the chunk topic.

    Raises Reject: missing_header, schema, unsupported_version, too_large (value over `max_bytes`).
    """
    headers = _headers(record)
    version = _text(headers, "ce_specversion", 10)
    if version != "1.0":
        raise Reject("unsupported_version", f"ce_specversion {version!r}, only 1.0 is spoken")
    kind = _text(headers, "ce_type", 100)
    if kind not in (CHUNK_TYPE, END_TYPE):
        family, _, _ = kind.rpartition(".")
        if family in ("audio.chunk", "audio.end"):
            raise Reject("unsupported_version", f"ce_type {kind!r}, only version 1 is spoken")
        raise Reject("schema", f"ce_type {kind!r} does not belong on this topic")
    key = _session_key(record, headers)
    ce_id = _text(headers, "ce_id", MAX_ID_CHARS * 5)
    source = _text(headers, "ce_source", MAX_SOURCE_CHARS)
    traceparent = _traceparent(headers)
    value = record.value or b""
    if len(value) > max_bytes:
        raise Reject("too_large", f"{len(value)} bytes, the limit is {max_bytes}")
    if kind == END_TYPE:
        if value:
            raise Reject("schema", "an end record carries no value")
        sequence = _number(headers, "ce_sequence") if "ce_sequence" in headers else None
        return SessionEnd(key, sequence, ce_id, traceparent, record.origin)
    if not value:
        raise Reject("truncated", "a chunk without audio")
    return Chunk(
        key=key,
        sequence=_number(headers, "ce_sequence"),
        start_sample=_number(headers, "ce_startsample"),
        content_type=_text(headers, "content-type", 200),
        payload=value,
        roles=_roles(headers),
        ce_id=ce_id,
        source=source,
        captured_at=_time(headers),
        traceparent=traceparent,
        origin=record.origin,
    )


def known_key(record: Record) -> SessionKey | None:
    """The session of a record that `parse` refused, where its headers still tell it."""
    try:
        return _session_key(record, _headers(record))
    except Reject:
        return None


def chunk_headers(
    key: SessionKey,
    sequence: int,
    start_sample: int,
    content_type: str,
    *,
    source: str,
    ce_id: str | None = None,
    captured_at: datetime | None = None,
    roles: Sequence[str] | None = None,
    traceparent: str | None = None,
) -> Headers:
    """Headers of one chunk. The default `ce_id` is made of session and sequence."""
    headers = _common_headers(CHUNK_TYPE, key, ce_id, f"{sequence}", source, traceparent)
    headers += [
        ("content-type", content_type.encode()),
        ("ce_sequence", b"%d" % sequence),
        ("ce_startsample", b"%d" % start_sample),
    ]
    if captured_at is not None:
        if captured_at.tzinfo is None:
            raise ValueError("captured_at needs a time zone")
        headers.append(("ce_time", captured_at.isoformat().encode()))
    if roles:
        headers.append(("ce_roles", ",".join(roles).encode()))
    return headers


def end_headers(
    key: SessionKey,
    sequence: int | None = None,
    *,
    source: str,
    ce_id: str | None = None,
    traceparent: str | None = None,
) -> Headers:
    """Headers of the record that ends a session; `sequence` is the one after the last chunk's."""
    headers = _common_headers(END_TYPE, key, ce_id, "end", source, traceparent)
    if sequence is not None:
        headers.append(("ce_sequence", b"%d" % sequence))
    return headers


def _common_headers(
    ce_type: str, key: SessionKey, ce_id: str | None, suffix: str, source: str, traceparent: str | None
) -> Headers:
    if ce_id is None:
        if key.session_id == DEFAULT_SESSION:
            raise ValueError("a session without an id needs ce_id: a restart would repeat the default ones")
        ce_id = f"{key.tenant_id}:{key.stream_id}:{key.session_id}:{suffix}"
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_type", ce_type.encode()),
        ("ce_source", source.encode()),
        ("ce_id", ce_id.encode()),
        ("ce_streamid", key.stream_id.encode()),
    ]
    if key.session_id != DEFAULT_SESSION:
        headers.append(("ce_sessionid", key.session_id.encode()))
    if key.tenant_id != DEFAULT_TENANT:
        headers.append(("ce_tenant", key.tenant_id.encode()))
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def _headers(record: Record) -> dict[str, bytes]:
    headers: dict[str, bytes] = {}
    for name, value in record.headers:
        name = name.lower()
        if name.startswith("ce_") and headers.get(name, value) != value:
            raise Reject("schema", f"header {name[:40]!r} is there twice with different values")
        headers[name] = value
    return headers


def _session_key(record: Record, headers: Mapping[str, bytes]) -> SessionKey:
    stream_id = _id(headers, "ce_streamid")
    if record.key != stream_id.encode():
        raise Reject("schema", "the record key is not the stream id: it may lie on any partition")
    tenant_id, session_id = DEFAULT_TENANT, DEFAULT_SESSION
    if "ce_tenant" in headers:
        tenant_id = _id(headers, "ce_tenant")
    if "ce_sessionid" in headers:
        session_id = _id(headers, "ce_sessionid")
    return SessionKey(tenant_id, stream_id, session_id)


def _id(headers: Mapping[str, bytes], name: str) -> str:
    text = _text(headers, name, MAX_ID_CHARS)
    if len(headers[name]) > MAX_ID_BYTES:
        raise Reject("schema", f"{name} is over {MAX_ID_BYTES} bytes")
    return text


def _text(headers: Mapping[str, bytes], name: str, max_chars: int) -> str:
    value = headers.get(name)
    if value is None:
        raise Reject("missing_header", name)
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise Reject("schema", f"{name} is not UTF-8") from error
    if not text or len(text) > max_chars or _UNPRINTABLE.search(text):
        raise Reject("schema", f"{name} is empty, over {max_chars} characters, or holds control characters")
    return text


def _number(headers: Mapping[str, bytes], name: str) -> int:
    text = _text(headers, name, 20)
    if not (text.isascii() and text.isdigit()) or int(text) >= MAX_NUMBER:
        raise Reject("schema", f"{name} is not an integer from 0 to 2^53 - 1")
    return int(text)


def _roles(headers: Mapping[str, bytes]) -> tuple[str, ...] | None:
    if "ce_roles" not in headers:
        return None
    roles = tuple(role.strip() for role in _text(headers, "ce_roles", MAX_SOURCE_CHARS).split(","))
    if len(roles) > MAX_ROLES or not all(roles):
        raise Reject("schema", "ce_roles is not a comma-separated list with one name per channel")
    return roles


def _time(headers: Mapping[str, bytes]) -> datetime | None:
    if "ce_time" not in headers:
        return None
    text = _text(headers, "ce_time", 64)
    try:
        captured_at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Reject("schema", "ce_time is not an RFC 3339 time") from error
    if captured_at.tzinfo is None:
        raise Reject("schema", "ce_time has no time zone")
    return captured_at


def _traceparent(headers: Mapping[str, bytes]) -> str | None:
    """W3C trace context: a malformed parent is ignored, never a reason to refuse the data."""
    value = headers.get("traceparent", b"")
    text = value.decode("ascii", errors="replace")
    return text[:55] if len(text) <= 512 and _TRACEPARENT.fullmatch(text) else None
