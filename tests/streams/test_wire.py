"""What comes out of `parse` is what was sent, and everything else is refused with its reason."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import Reject
from streams.messages import (
    Chunk,
    Origin,
    Record,
    SessionEnd,
    SessionKey,
    chunk_headers,
    end_headers,
    known_key,
    parse,
)

KEY = SessionKey("acme", "call-1", "5e0c")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIMIT = 1000


def record(
    headers: list[tuple[str, bytes]], value: bytes | None = b"abc", key: bytes | None = b"call-1"
) -> Record:
    return Record("audio.chunks", 3, 17, key, value, tuple(headers), 0)


def headers(**changes: bytes | None) -> list[tuple[str, bytes]]:
    """Headers of a good chunk with some changed, or left out (None); `_` stands for `-`, `ce_` stays."""
    made = dict(chunk_headers(KEY, 4, 3200, "audio/PCMU", source="/pbx", traceparent=PARENT))
    for name, value in changes.items():
        name = name if name.startswith("ce_") else name.replace("_", "-")
        if value is None:
            del made[name]
        else:
            made[name] = value
    return list(made.items())


def test_a_chunk_comes_out_as_it_was_sent() -> None:
    at = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
    sent = chunk_headers(
        KEY,
        4,
        3200,
        "audio/PCMU",
        source="/pbx",
        captured_at=at,
        roles=["agent", "customer"],
        traceparent=PARENT,
    )
    assert parse(record(sent), LIMIT) == Chunk(
        key=KEY,
        sequence=4,
        start_sample=3200,
        content_type="audio/PCMU",
        payload=b"abc",
        roles=("agent", "customer"),
        ce_id="acme:call-1:5e0c:4",
        source="/pbx",
        captured_at=at,
        traceparent=PARENT,
        origin=Origin("audio.chunks", 3, 17),
    )


@pytest.mark.parametrize("sequence", [None, 9])
def test_an_end_comes_out_as_it_was_sent(sequence: int | None) -> None:
    sent = end_headers(KEY, sequence, source="/pbx", traceparent=PARENT)
    for value in (None, b""):
        end = parse(record(sent, value), LIMIT)
        assert end == SessionEnd(KEY, sequence, "acme:call-1:5e0c:end", PARENT, Origin("audio.chunks", 3, 17))


def test_tenant_and_session_have_defaults() -> None:
    chunk = parse(record(headers(ce_tenant=None, ce_sessionid=None)), LIMIT)
    assert chunk.key == SessionKey("default", "call-1", "0")


def test_default_ids_need_a_session_of_its_own() -> None:
    with pytest.raises(ValueError, match="ce_id"):
        chunk_headers(SessionKey("acme", "call-1", "0"), 0, 0, "audio/PCMU", source="/pbx")


@pytest.mark.parametrize(
    "name",
    [
        "ce_specversion",
        "ce_type",
        "ce_source",
        "ce_id",
        "ce_streamid",
        "ce_sequence",
        "ce_startsample",
        "content_type",
    ],
)
def test_a_missing_header_is_named(name: str) -> None:
    with pytest.raises(Reject) as refused:
        parse(record(headers(**{name: None})), LIMIT)
    assert refused.value.reason == "missing_header"
    assert refused.value.detail == (name if name.startswith("ce_") else "content-type")


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("unsupported_version", {"ce_specversion": b"0.3"}),
        ("unsupported_version", {"ce_type": b"audio.chunk.v2"}),
        ("unsupported_version", {"ce_type": b"audio.end.v9"}),
        ("schema", {"ce_type": b"audio.transcript.v1"}),
        ("schema", {"ce_sequence": b"-1"}),
        ("schema", {"ce_sequence": "４".encode()}),
        ("schema", {"ce_sequence": b"1e3"}),
        ("schema", {"ce_sequence": b"9007199254740992"}),
        ("schema", {"ce_startsample": b""}),
        ("schema", {"ce_source": b"\xff"}),
        ("schema", {"ce_id": b"a\x00b"}),
        ("schema", {"ce_id": b"x" * 1001}),
        ("schema", {"ce_tenant": "\U0001f600".encode() * 65}),  # few characters, many bytes
        ("schema", {"ce_sessionid": "\U0001f600".encode() * 65}),
        ("schema", {"ce_streamid": b"call-2"}),
        ("schema", {"ce_roles": b"agent,,customer"}),
        ("schema", {"ce_time": b"yesterday"}),
        ("schema", {"ce_time": b"2026-11-23T04:00:00"}),
    ],
)
def test_wrong_headers_are_refused(reason: str, changes: dict[str, bytes]) -> None:
    with pytest.raises(Reject) as refused:
        parse(record(headers(**changes)), LIMIT)
    assert refused.value.reason == reason


@pytest.mark.parametrize("key", [None, b"", b"call-2"])
def test_a_record_without_its_key_may_lie_anywhere_and_is_refused(key: bytes | None) -> None:
    with pytest.raises(Reject, match="record key") as refused:
        parse(record(headers(), key=key), LIMIT)
    assert refused.value.reason == "schema"


def test_a_header_that_is_there_twice_must_agree() -> None:
    parse(record([*headers(), ("ce_sequence", b"4")]), LIMIT)
    with pytest.raises(Reject, match="twice"):
        parse(record([*headers(), ("CE_Sequence", b"5")]), LIMIT)


@pytest.mark.parametrize(
    ("reason", "value"), [("too_large", b"x" * (LIMIT + 1)), ("truncated", b""), ("truncated", None)]
)
def test_the_value_is_bounded_and_not_empty(reason: str, value: bytes | None) -> None:
    with pytest.raises(Reject) as refused:
        parse(record(headers(), value), LIMIT)
    assert refused.value.reason == reason


def test_a_malformed_trace_parent_is_no_reason_to_refuse() -> None:
    for parent in (
        b"00-xyz",
        b"ff" + PARENT[2:].encode(),
        b"\xff\xfe",
        b"0" * 600,
        b"00-" + b"0" * 32 + PARENT[35:].encode(),
    ):
        assert parse(record(headers(traceparent=parent)), LIMIT).traceparent is None


def test_known_key_tells_the_session_of_a_refused_record() -> None:
    assert known_key(record(headers(ce_sequence=b"x"))) == KEY
    assert known_key(record(headers(ce_streamid=None))) is None


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([n for n, _ in headers()]) | st.text(max_size=8), st.binary(max_size=30)),
        max_size=6,
    ),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
)
def test_any_record_is_parsed_or_refused(
    changes: list[tuple[str, bytes]], value: bytes | None, key: bytes | None
) -> None:
    made = dict(headers()) | dict(changes)
    with contextlib.suppress(Reject):
        parse(record(list(made.items()), value, key), LIMIT)
