"""Bad input and lost dependencies, one by one: what is refused becomes a dead letter, its neighbours go on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from streams.errors import Unavailable
from streams.messages import Record, SessionKey, chunk_headers, end_headers
from tests.sim.loop import run
from tests.sim.scenario import CHUNK, CONTENT, LIMITS, TOPIC, Scenario, expected_texts, play, speech_like
from tests.sim.world import Faults, HashEngine, MemoryPublisher, MemoryStore

Headers = list[tuple[str, bytes]]
KEY = SessionKey("default", "call", "11111111-1111-4111-8111-111111111111")


def log_of(key: SessionKey = KEY, seconds: float = 6.0, ids: str | None = None) -> Scenario:
    """One clean session of one channel in 100 ms chunks, with its end."""
    import numpy as np

    audio = speech_like(np.random.default_rng(5), seconds, 1)
    scenario = Scenario(sessions=[key])
    starts = range(0, len(audio), CHUNK)
    for sequence, start in enumerate(starts):
        ce_id = None if ids is None else f"{ids}-{sequence}"
        headers = chunk_headers(key, sequence, start, CONTENT % 1, source="test", ce_id=ce_id)
        scenario.append(
            start / 16_000, key.stream_id.encode(), audio[start : start + CHUNK].tobytes(), headers
        )
    end = end_headers(key, len(starts), source="test", ce_id=None if ids is None else f"{ids}-end")
    scenario.append(seconds, key.stream_id.encode(), b"", end)
    return scenario


def settle(scenario: Scenario, faults: Faults | None = None, **changes: object) -> MemoryStore:
    """Run the pipeline over the log until it is settled."""
    faults = faults or Faults(random.Random(1))
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    run(play(scenario, store, HashEngine(faults), publisher, faults, replace(LIMITS, **changes)))
    assert set(publisher.sent) == set(store.rows) | {letter.ce_id for letter in store.dead.values()}
    return store


def texts(store: MemoryStore) -> set[tuple[str, str, int, str]]:
    rows = [m for m in store.rows.values() if type(m).__name__ != "Event"]
    return {(type(m).__name__, m.stream_id, m.channel, m.text) for m in rows}


def inserted(scenario: Scenario, at: int, value: bytes, headers: Headers, key: bytes = b"call") -> Scenario:
    """The log with one more record at offset `at`."""
    records = [
        *scenario.records[:at],
        Record(TOPIC, 0, at, key, value, tuple(headers), 0),
        *scenario.records[at:],
    ]
    stamped = [
        replace(
            r, offset=i, timestamp_ms=scenario.records[min(i, at, len(scenario.records) - 1)].timestamp_ms
        )
        for i, r in enumerate(records)
    ]
    return Scenario(stamped, [r.timestamp_ms / 1000 for r in stamped], scenario.sessions)


def without(headers: Headers, name: str) -> Headers:
    return [(n, v) for n, v in headers if n != name]


def changed(headers: Headers, name: str, value: bytes) -> Headers:
    return [(n, value if n == name else v) for n, v in headers]


OTHER = chunk_headers(
    SessionKey("default", "other", "22222222-2222-4222-8222-222222222222"), 0, 0, CONTENT % 1, source="t"
)
GOOD = bytes(3200)
BAD_RECORDS: list[tuple[str, str, bytes, Headers]] = [
    ("wrong schema", "schema", GOOD, changed(OTHER, "ce_type", b"cart.checkout.v1")),
    ("version to come", "unsupported_version", GOOD, changed(OTHER, "ce_type", b"audio.chunk.v9")),
    ("missing header", "missing_header", GOOD, without(OTHER, "ce_sequence")),
    ("no headers", "missing_header", GOOD, []),
    ("sequence is no number", "schema", GOOD, changed(OTHER, "ce_sequence", b"-1")),
    ("unknown codec", "codec", GOOD, changed(OTHER, "content-type", b"audio/x-unheard-of")),
    (
        "impossible rate",
        "rate",
        GOOD,
        changed(OTHER, "content-type", b"audio/x-raw;format=S16LE;rate=1;channels=1"),
    ),
    ("half a sample", "truncated", GOOD[:-1], OTHER),
    ("corrupt FLAC", "decode", b"fLaC" + bytes(range(200)), changed(OTHER, "content-type", b"audio/flac")),
    ("oversized", "too_large", bytes(2 << 20), OTHER),
    ("empty", "truncated", b"", OTHER),
]


@pytest.mark.parametrize(("name", "reason", "value", "headers"), BAD_RECORDS, ids=[b[0] for b in BAD_RECORDS])
def test_a_bad_record_is_one_dead_letter(name: str, reason: str, value: bytes, headers: Headers) -> None:
    calm = settle(log_of())
    store = settle(inserted(log_of(), 20, value, headers, key=b"other"))
    assert [(d.reason, d.offset) for d in store.dead.values()] == [(reason, 20)]
    assert texts(store) == texts(calm) == expected_texts(log_of())


def test_another_format_in_the_middle_is_refused_and_the_rest_goes_on() -> None:
    scenario = log_of()
    record = scenario.records[20]
    headers = tuple(
        (n, b"audio/x-raw;format=S16LE;rate=8000;channels=2" if n == "content-type" else v)
        for n, v in record.headers
    )
    scenario.records[20] = replace(record, headers=headers)
    store = settle(scenario)
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("format_changed", 20)]
    assert all(store.sessions[key].ended for key in scenario.sessions)


def test_a_chunk_after_the_end_is_refused() -> None:
    scenario = log_of()
    late = chunk_headers(KEY, 1000, 16_000 * 1000, CONTENT % 1, source="test")
    store = settle(inserted(scenario, len(scenario.records), GOOD, late))
    assert [d.reason for d in store.dead.values()] == ["after_end"]


def test_a_producer_without_session_id_that_starts_again_is_refused() -> None:
    key = SessionKey("default", "call", "0")
    scenario = log_of(key, ids="first")
    again = chunk_headers(key, 0, 0, CONTENT % 1, source="test", ce_id="second-0")
    store = settle(inserted(scenario, 30, GOOD, again))
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("sequence_reset", 30)]


def test_a_lost_chunk_is_a_gap_and_later_audio_goes_on() -> None:
    scenario = log_of()
    del scenario.records[25], scenario.arrival_s[25]
    scenario.records = [replace(r, offset=i) for i, r in enumerate(scenario.records)]
    store = settle(scenario)
    gap = next(iter(store.gaps.values()))
    assert (gap.first_sequence, gap.last_sequence) == (25, 25)
    assert texts(store) == expected_texts(scenario)


def test_a_chunk_that_comes_after_its_gap_was_recorded_is_late() -> None:
    scenario = log_of(seconds=10.0)
    record = scenario.records.pop(25)
    scenario.records.insert(60, replace(record, timestamp_ms=scenario.records[59].timestamp_ms))
    scenario.records = [replace(r, offset=i) for i, r in enumerate(scenario.records)]
    scenario.arrival_s = [r.timestamp_ms / 1000 for r in scenario.records]
    store = settle(scenario)
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("late", 60)]


def test_a_stream_on_another_partition_is_refused() -> None:
    faults = Faults(random.Random(1))
    scenario = log_of(seconds=2.0)
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    store.streams["default", "call"] = 7
    run(play(scenario, store, HashEngine(faults), publisher, faults))
    assert {d.reason for d in store.dead.values()} == {"wrong_partition"}
    assert len(store.dead) == len(scenario.records)
    assert not store.rows


@pytest.mark.parametrize("seed", range(3))
def test_a_database_outage_loses_nothing_and_cuts_no_stream_as_idle(seed: int) -> None:
    class Outage(Faults):
        def strike(self, place: str) -> None:
            import asyncio

            if place == "before_commit" and 2.0 < asyncio.get_running_loop().time() < 62.0:
                raise Unavailable(place)

    calm = settle(log_of())
    store = settle(log_of(), Outage(random.Random(seed)), idle_flush_s=5.0)
    assert texts(store) == texts(calm)
    assert all(state.ended for state in store.sessions.values())


def test_the_engine_that_is_gone_for_good_ends_the_process() -> None:
    class Gone(HashEngine):
        analyse: Callable[..., object]

        async def analyse(self, *args: object, **kwargs: object) -> object:  # type: ignore[no-redef]
            raise Unavailable("no engine process comes up")

    faults = Faults(random.Random(1))
    with pytest.raises(Unavailable):
        run(play(log_of(), MemoryStore(faults), Gone(faults), MemoryPublisher(faults), faults))
