"""What is fuzzed: `parse` and `decode` on bytes, and what must hold of anything that comes out.

In: bytes, however they came about. Out: nothing, or an exception that is a defect of ours: only Reject may come out of
the code under test, and it stays in here. Knows no fuzzer, so that the suite can replay a corpus without one.
Invariant: the same bytes are the same test everywhere.
"""

from __future__ import annotations

import json

import numpy as np

from streams.audio import AudioLimits, decode
from streams.errors import Reject
from streams.messages import (
    Chunk,
    DeadLetter,
    Record,
    SessionEnd,
    SessionKey,
    Topics,
    chunk_headers,
    dead_letter,
    end_headers,
    parse,
)
from streams.resample import supported_rate
from streams.wire import MAX_ID_BYTES, MAX_NUMBER, MAX_ROLES

MAX_BYTES = 1 << 16
LIMITS = AudioLimits(max_bytes=MAX_BYTES, max_decoded_bytes=1 << 22, max_seconds=20.0)
TOPICS = Topics.with_prefix("")
KEY = SessionKey("acme", "call", "5e0c")
GOOD = {
    0: chunk_headers(KEY, 4, 3200, "audio/PCMU", source="/pbx", roles=["agent", "customer"]),
    1: end_headers(KEY, 9, source="/pbx"),
    2: [],
}
NAMES = (
    "ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_streamid", "ce_sessionid", "ce_sequence",
    "ce_startsample", "ce_tenant", "ce_roles", "content-type", "traceparent", "CE_Id", "ce_unheard-of", "",
)  # fmt: skip
TYPES = (
    "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "audio/PCMU", "audio/PCMA;channels=2;rate=8000",
    "audio/x-raw;format=S16LE;rate=16000;channels=1", "audio/L16;rate=44100;channels=2",
)  # fmt: skip


class Reader:
    """Takes bytes off the front; past the end there are only zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += size
        return found + bytes(size - len(found))

    def rest(self) -> bytes:
        return self._data[self._at :]


def parse_bytes(data: bytes) -> bool:
    """A record made of `data`: good headers or none, some written over or added, a key, a value. Was it accepted?"""
    reader = Reader(data)
    kind = reader.byte()
    headers = list(GOOD[kind % 3])
    for _ in range(reader.byte() % 12):
        name, value = NAMES[reader.byte() % len(NAMES)], reader.take(reader.byte())
        if not name:
            name = reader.take(reader.byte() % 8).decode("utf-8", "replace")
        if kind & 4:
            headers = [(n, v) for n, v in headers if n != name]
        headers.append((name, value))
    key: bytes | None = b"call" if kind & 8 else reader.take(reader.byte() % 16)
    body = None if kind & 16 else reader.rest()
    record = Record("audio.chunks", 3, 17, key, body, tuple(headers), 0)
    try:
        message = parse(record, MAX_BYTES)
    except Reject as reject:
        _check_letter(dead_letter(record, reject, max_payload_bytes=64))
        return False
    _check_message(message, record)
    return True


def decode_bytes(data: bytes) -> bool:
    """A chunk: the first byte names its type, or says that the type is in `data` too. Was it accepted?"""
    reader = Reader(data)
    kind = reader.byte()
    if kind >= 0xF0:
        content_type = reader.take(reader.byte() % 64).decode("utf-8", "replace")
    else:
        content_type = TYPES[kind % len(TYPES)]
    try:
        pcm = decode(content_type, reader.rest(), LIMITS)
    except Reject:
        return False
    channels, samples = pcm.samples.shape
    assert pcm.samples.dtype == np.int16
    assert pcm.samples.flags.c_contiguous
    assert 1 <= channels <= LIMITS.max_channels
    assert pcm.samples.nbytes <= LIMITS.max_decoded_bytes
    assert samples <= LIMITS.max_seconds * pcm.rate
    assert LIMITS.min_rate <= pcm.rate <= LIMITS.max_rate
    assert supported_rate(pcm.rate)
    return True


TARGETS = {"parse": parse_bytes, "decode": decode_bytes}


def _check_letter(letter: DeadLetter) -> None:
    """It can be sent and stored: UTF-8, no NUL, and readable again."""
    out = letter.outgoing(TOPICS)
    fields = json.loads(out.value.decode())
    assert DeadLetter(**fields).ce_id == letter.ce_id
    assert b"\\u0000" not in out.value
    for _, value in out.headers:
        value.decode()


def _check_message(message: Chunk | SessionEnd, record: Record) -> None:
    assert record.key == message.key.stream_id.encode()
    for text in (message.key.tenant_id, message.key.stream_id, message.key.session_id):
        assert 0 < len(text.encode()) <= MAX_ID_BYTES
        assert "\x00" not in text
    assert message.sequence is None or 0 <= message.sequence < MAX_NUMBER
    if isinstance(message, Chunk):
        assert 0 <= message.start_sample < MAX_NUMBER
        assert message.payload
        assert message.payload == record.value
        assert message.roles is None or 0 < len(message.roles) <= MAX_ROLES
        assert message.captured_at is None or message.captured_at.tzinfo is not None
        "".join((message.ce_id, message.source, message.content_type, *(message.roles or ()))).encode()
