"""Bad input and lost dependencies, one by one: what is refused becomes a dead letter, its neighbours go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from model.answers import TextAnswer
from storage.sink import Commit, SessionState
from streams.errors import Unavailable
from streams.messages import Record, SessionKey, chunk_headers, end_headers, parse
from streams.windows import Window
from tests.sim.loop import run
from tests.sim.scenario import (
    CHUNK,
    CONTENT,
    LIMITS,
    TOPIC,
    Scenario,
    expected_texts,
    play,
    speech_like,
    write_log,
)
from tests.sim.world import Crash, Faults, HashEngine, MemoryPublisher, MemoryStore, Silent
from workers.dialog import DialogConfig
from workers.pipeline import Pipeline
from workers.pool import Analysis
from workers.session import Ready, Session

Headers = list[tuple[str, bytes]]
KEY = SessionKey("default", "call", "11111111-1111-4111-8111-111111111111")


def log_of(key: SessionKey = KEY, seconds: float = 6.0, ids: str | None = None) -> Scenario:
    """One clean session of one channel in 100 ms chunks, with its end."""
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
    for faults in (Faults(random.Random(1)), Faults(random.Random(2), crash=0.08)):
        store = settle(scenario, faults)
        assert [(d.reason, d.offset) for d in store.dead.values()] == [("late", 60)]
        assert [(g.first_sequence, g.last_sequence) for g in store.gaps.values()] == [(25, 25)]


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


def session_of(*messages: tuple[float, bytes, Headers]) -> Scenario:
    """A log of these records of the one session: (time, value, headers)."""
    scenario = Scenario(sessions=[KEY])
    for at_s, value, headers in messages:
        scenario.append(at_s, b"call", value, headers)
    return scenario


def chunk(sequence: int, start: int, rate: int = 16_000) -> Headers:
    return chunk_headers(
        KEY, sequence, start, f"audio/x-raw;format=S16LE;rate={rate};channels=1", source="test"
    )


def end(sequence: int) -> Headers:
    return end_headers(KEY, sequence, source="test")


ONE_TENTH = bytes(3200)
PINNING = {
    "a chunk of no sample at 16 kHz": session_of((0.0, bytes(2), chunk(0, 0, rate=48_000))),
    "a chunk after an idle flush that brings nothing new": session_of(
        (0.0, ONE_TENTH, chunk(0, 0)), (30.0, bytes(1600), chunk(1, 800))
    ),
    "an end behind a hole after an idle flush": session_of(
        (0.0, ONE_TENTH, chunk(0, 0)), (30.0, b"", end(2))
    ),
    "a bad chunk behind a hole after an idle flush": session_of(
        (0.0, ONE_TENTH, chunk(0, 0)), (30.0, GOOD[:-1], chunk(2, 3200))
    ),
}


@pytest.mark.parametrize("name", PINNING)
def test_nothing_pins_the_offset(name: str) -> None:
    """`settle` asserts that the offset reaches the end of the log."""
    settle(PINNING[name], idle_flush_s=5.0)


@pytest.mark.parametrize("stamp_ms", [-1, 1 << 50, (1 << 63) - 1])
def test_a_senseless_time_stamp_pins_nothing(stamp_ms: int) -> None:
    scenario = session_of(
        (0.0, ONE_TENTH, chunk(0, 0)), (0.2, ONE_TENTH, chunk(2, 3200)), (0.3, ONE_TENTH, chunk(3, 4800))
    )
    scenario.records[1] = replace(scenario.records[1], timestamp_ms=stamp_ms)
    store = settle(scenario, idle_flush_s=5.0)
    assert [(g.first_sequence, g.last_sequence) for g in store.gaps.values()] == [(1, 1)]


WILD = [16_000 * 1_700_000_000, (1 << 53) - 1]


@pytest.mark.parametrize("start", WILD)
@pytest.mark.parametrize("last", [(0.2, b"", end(2)), (0.2, ONE_TENTH, chunk(2, 3200))])
def test_a_position_far_away_that_nothing_follows_is_refused(
    start: int, last: tuple[float, bytes, Headers]
) -> None:
    store = settle(
        session_of((0.0, ONE_TENTH, chunk(0, 0)), (0.1, ONE_TENTH, chunk(1, start)), last), idle_flush_s=5.0
    )
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("far_ahead", 1)]
    assert len(store.rows) < 10


@pytest.mark.parametrize("start", WILD)
def test_a_position_far_away_that_others_follow_is_a_gap(start: int) -> None:
    follow = [(0.1 * n, ONE_TENTH, chunk(n, start - CHUNK * (5 - n))) for n in (1, 2, 3)]
    store = settle(session_of((0.0, ONE_TENTH, chunk(0, 0)), *follow, (0.5, b"", end(4))))
    assert not store.dead
    assert [(g.first_sequence, g.start_sample) for g in store.gaps.values()] == [(None, CHUNK)]
    assert all(state.ended for state in store.sessions.values())


def with_header(scenario: Scenario, at: int, name: str, value: int) -> Scenario:
    """The log with another number in one of its records."""
    record = scenario.records[at]
    scenario.records[at] = replace(record, headers=tuple(changed([*record.headers], name, b"%d" % value)))
    return scenario


@pytest.mark.parametrize("at", [0, 30])
@pytest.mark.parametrize(
    ("name", "reason"), [("ce_sequence", "sequence_jump"), ("ce_startsample", "far_ahead")]
)
@pytest.mark.parametrize("value", [WILD[1], 16_000 * 86_400])
def test_one_wild_number_costs_one_chunk(at: int, name: str, reason: str, value: int) -> None:
    store = settle(with_header(log_of(), at, name, value))
    assert [(d.reason, d.offset) for d in store.dead.values() if d.reason != "after_end"] == (
        [(reason, at)] if name == "ce_startsample" else []
    )
    assert len(store.dead) == 1  # a wild sequence is still apart when the session ends
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {96_000}
    assert all(state.ended for state in store.sessions.values())


def test_a_wild_sequence_is_refused_when_nothing_follows_it() -> None:
    scenario = with_header(log_of(), 30, "ce_sequence", WILD[1])
    del scenario.records[-1], scenario.arrival_s[-1]  # no end
    store = settle(scenario, idle_flush_s=5.0)
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("sequence_jump", 30)]
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {96_000}


@pytest.mark.parametrize("lost_s", [60, 3600, 86_400])
def test_a_producer_that_lost_its_network_for_long_leaves_a_gap_and_goes_on(lost_s: int) -> None:
    scenario, lost = log_of(), lost_s * 10
    for at in range(30, 60):
        with_header(scenario, at, "ce_sequence", at + lost)
        with_header(scenario, at, "ce_startsample", (at + lost) * CHUNK)
    with_header(scenario, 60, "ce_sequence", 60 + lost)
    store = settle(scenario)
    assert not store.dead
    assert [(g.first_sequence, g.last_sequence, g.end_sample) for g in store.gaps.values()] == [
        (30, 29 + lost, (30 + lost) * CHUNK)
    ]
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {(60 + lost) * CHUNK}


@pytest.mark.parametrize("pause_s", [0.0, 30.0])
def test_positions_that_begin_again_are_refused_whatever_the_pause(pause_s: float) -> None:
    audio = speech_like(np.random.default_rng(5), 12.0, 1)
    scenario = Scenario(sessions=[KEY])
    for n in range(120):
        headers = chunk(n, n % 60 * CHUNK)
        value = audio[n * CHUNK : (n + 1) * CHUNK].tobytes()
        scenario.append(n / 10 + (pause_s if n >= 60 else 0), b"call", value, headers)
    store = settle(scenario, idle_flush_s=5.0)
    assert [(d.reason, d.offset) for d in store.dead.values()] == [("overlap", n) for n in range(60, 120)]


@pytest.mark.parametrize("unit", [0, 20])
def test_positions_in_no_unit_of_ours_end_in_dead_letters(unit: int) -> None:
    chunks = [(n / 50, bytes(640), chunk(n, n * unit)) for n in range(300)]
    store = settle(session_of(*chunks, (7.0, b"", end(300))))
    placed = 300 - len(store.dead)
    assert {d.reason for d in store.dead.values()} == {"overlap"}
    covered = {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"}.pop()
    assert placed * 160 <= covered  # each that was placed brought at least its half


def stray(key: bytes | None, value: bytes, headers: Headers) -> list[str]:
    """A stray record on partition 1, then a stream's audio on partition 0: the reasons of all dead letters."""

    async def main() -> list[str]:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = MemoryStore(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=LIMITS,
            monitor=Silent(),
        )
        scenario = log_of(seconds=2.0)
        await pipeline.assigned(TOPIC, 0, "sim", 0, 0)
        await pipeline.assigned(TOPIC, 1, "sim", 0, 0)
        await pipeline.handle(Record(TOPIC, 1, 0, key, value, tuple(headers), 0))
        for record in scenario.records:
            await pipeline.handle(record)
        for _ in range(20):
            pipeline.at_end(TOPIC, 1, 1)
            await pipeline.tick()
            await asyncio.sleep(0.2)
        await pipeline.drain(20.0)
        assert store.streams == {("default", "call"): 0}
        assert store.sessions[KEY].partition == 0
        assert not store.gaps
        return [d.reason for d in store.dead.values()]

    reasons: list[str] = run(main())
    return reasons


def test_a_stray_record_binds_no_stream() -> None:
    assert stray(None, GOOD, chunk(0, 0)) == ["schema"]
    assert stray(b"call", GOOD, changed(chunk(7, 0), "content-type", b"audio/rubbish")) == ["codec"]
    assert stray(b"call", GOOD[:-1], chunk(0, 0)) == ["truncated"]
    assert stray(b"call", b"", end(3)) == []


def restarted(*messages: tuple[int, bool], ended: bool = True, fates: dict[int, str] | None = None) -> Ready:
    """What a session of 100 chunks, read up to offset 99, makes after a restart of (offset, sequence) messages."""
    state = SessionState(KEY, TOPIC, 0, 1, 16_000, None, "t", 100, 0, 99, ended, tuple((fates or {}).items()))
    session = Session(KEY, LIMITS.session, state)
    for offset, sequence in messages:
        headers = tuple(chunk(sequence, sequence * CHUNK))
        message = parse(Record(TOPIC, 0, offset, b"call", ONE_TENTH, headers, 0), 1 << 20)
        session.accept(message, 0.0, 0.0)
        while session.due:
            session.advance()
    return session.collect()


@pytest.mark.parametrize("ended", [True, False])
def test_what_comes_again_after_a_restart_is_a_duplicate(ended: bool) -> None:
    ready = restarted((5, 5), (98, 200), (100, 5), (101, 99), ended=ended)
    assert [d.origin.offset for d in ready.duplicates] == [100, 101]
    assert not [d for r in ready.rows for d in r.dead_letters]


def test_after_the_end_only_what_is_new_is_refused_for_it() -> None:
    ready = restarted((100, 99), (101, 100), (102, 7))
    assert [d.origin.offset for d in ready.duplicates] == [100, 102]
    assert [(d.reason, d.offset) for r in ready.rows for d in r.dead_letters] == [("after_end", 101)]


def test_a_fate_that_is_stored_stands() -> None:
    state = SessionState(KEY, TOPIC, 0, 1, 16_000, None, "t", 10, 20, 99, False)
    session = Session(
        KEY, LIMITS.session, replace(state, fates=((21, "late"), (22, "decode"), (23, "duplicate")))
    )
    for offset, sequence in ((20, 10), (21, 12), (22, 11), (23, 12), (24, 12)):
        headers = tuple(chunk(sequence, sequence * CHUNK))
        session.accept(parse(Record(TOPIC, 0, offset, b"call", ONE_TENTH, headers, 0), 1 << 20), 0.0, 0.0)
        while session.due:
            session.advance()
    assert [(p.sequence, p.offset) for p in session.ledger.placed] == [(10, 20), (11, 22), (12, 24)]
    assert session.cutter.end_sample == 13 * CHUNK
    ready = session.collect()
    assert not ready.duplicates
    assert not [d for r in ready.rows for d in r.dead_letters]


def taken(session: Session, *messages: tuple[int, int], sizes: dict[int, bytes] | None = None) -> None:
    """Give a session these (offset, sequence) chunks, and each the turn that is due then."""
    for offset, sequence in messages:
        value = (sizes or {}).get(sequence, ONE_TENTH)
        headers = tuple(chunk(sequence, sequence * CHUNK))
        session.accept(parse(Record(TOPIC, 0, offset, b"call", value, headers, 0), 1 << 20), 0.0, 0.0)
        while session.due:
            session.advance()


@pytest.mark.parametrize("place", [("old", 0), (TOPIC, 3)])
def test_the_offsets_of_another_topic_or_partition_settle_nothing(place: tuple[str, int]) -> None:
    state = SessionState(KEY, *place, 1, 16_000, None, "t", 5, 40, 99, False, ((41, "late"),))
    session = Session(KEY, LIMITS.session, state, place=(TOPIC, 0))
    assert not session.bound  # a stray record must not move it
    taken(session, (0, 4), (1, 5), (41, 6))
    assert [(p.sequence, p.offset) for p in session.ledger.placed] == [(5, 1), (6, 41)]
    ready = session.collect()
    assert [d.origin.offset for d in ready.duplicates] == [0]
    assert not [d for r in ready.rows for d in r.dead_letters]
    assert session.state(TOPIC, 0).seen_offset == 41


def test_a_stream_that_moves_to_another_topic_loses_nothing() -> None:
    def half(records: list[Record]) -> Scenario:
        scenario = Scenario(sessions=[KEY])
        for record in records:
            scenario.append(record.timestamp_ms / 1000, b"call", record.value, [*record.headers])
        return scenario

    faults, whole = Faults(random.Random(1)), log_of()
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    for records in (whole.records[:40], whole.records[40:]):
        limits = replace(LIMITS, idle_flush_s=5.0)
        run(play(half(records), store, HashEngine(faults), publisher, faults, limits))
        if not store.sessions[KEY].ended:  # what is in the store is of a topic that is not used any longer
            store.sessions[KEY] = replace(store.sessions[KEY], topic="old")
            store.offsets.clear()
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {96_000}
    assert store.sessions[KEY].ended
    assert not store.dead
    assert not store.gaps


@pytest.mark.parametrize("ahead", [False, True])
def test_a_gap_that_is_not_recorded_yet_is_read_again(ahead: bool) -> None:
    """The numbers of a gap taken, but neither stored nor placed, are no duplicates after a restart."""
    session = Session(KEY, LIMITS.session)
    headers = tuple(chunk(5, WILD[0] if ahead else 5 * CHUNK))
    session.accept(parse(Record(TOPIC, 0, 0, b"call", ONE_TENTH, headers, 0), 1 << 20), 0.0, 0.0)
    session.hurry()
    session.advance()  # Missing(0, 4)
    if ahead:
        session.advance()
    state = session.state(TOPIC, 0)
    assert (state.resume_sequence, state.resume_offset) == (0, 0)
    again = Session(KEY, LIMITS.session, state)
    taken(again, *((1 + sequence, sequence) for sequence in range(5)))
    assert not again.collect().duplicates
    assert again.cutter.end_sample == 5 * CHUNK


def test_a_gap_found_before_the_stream_is_bound_is_stored_once_it_is() -> None:
    session = Session(KEY, LIMITS.session)
    taken(session, (0, 3), sizes={3: GOOD[:-1]})
    session.hurry()
    while session.due:
        session.advance()
    unbound = session.collect()
    assert [d.reason for r in unbound.rows for d in r.dead_letters] == ["truncated"]
    assert not unbound.gaps
    session.flush_idle()
    session.collect()
    assert session.forgettable  # a session that is never bound does not stay for its gaps
    session.bound = True
    taken(session, (1, 4))
    assert [(g.first_sequence, g.last_sequence) for g in session.collect().gaps][:1] == [(0, 2)]
    assert not session.collect().gaps


def test_the_gap_before_a_bad_first_chunk_is_stored() -> None:
    bad, good = (0.0, GOOD[:-1], chunk(3, 3 * CHUNK)), (0.2, ONE_TENTH, chunk(5, 5 * CHUNK))
    more = [(20.0 + n / 10, ONE_TENTH, chunk(n, n * CHUNK)) for n in (4, 6, 7)]
    store = settle(session_of(bad, (10.0, GOOD[:-1], chunk(4, 4 * CHUNK)), good, *more), idle_flush_s=30.0)
    assert (0, 2) in {(g.first_sequence, g.last_sequence) for g in store.gaps.values()}


def test_remembered_ids_cost_the_same_however_long_they_are() -> None:
    session = Session(KEY, LIMITS.session)
    for sequence in range(3):
        headers = chunk_headers(
            KEY, sequence, sequence * CHUNK, CONTENT % 1, source="t", ce_id=f"{sequence}" * 900
        )
        record = Record(TOPIC, 0, sequence, b"call", ONE_TENTH, tuple(headers), 0)
        session.accept(parse(record, 1 << 20), 0.0, 0.0)
    assert {len(known) for known in session.arrivals._ids.values()} == {8}


@pytest.mark.parametrize("first", [None, ("agent",)])
def test_the_roles_of_the_first_chunk_are_those_of_the_session(first: tuple[str, ...] | None) -> None:
    def sent(sequence: int, roles: tuple[str, ...] | None) -> Record:
        headers = chunk_headers(KEY, sequence, sequence * CHUNK, CONTENT % 1, source="test", roles=roles)
        return Record(TOPIC, 0, sequence, b"call", ONE_TENTH, tuple(headers), 0)

    def fed(session: Session, *records: Record) -> SessionState:
        for record in records:
            session.accept(parse(record, 1 << 20), 0.0, 0.0)
            while session.due:
                session.advance()
        return session.state(TOPIC, 0)

    once = fed(Session(KEY, LIMITS.session), sent(0, first), sent(1, ("customer",)))
    twice = fed(
        Session(KEY, LIMITS.session, fed(Session(KEY, LIMITS.session), sent(0, first))), sent(1, ("x",))
    )
    assert once.roles == twice.roles == first


def test_chunks_that_waited_are_settled_one_at_a_time() -> None:
    """The loop has its turn between them, and no more windows are made than the engine has room for."""

    class Counting(HashEngine):
        under_way = most = 0

        async def analyse(self, *args: Any, **kwargs: Any) -> Analysis:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                return await super().analyse(*args, **kwargs)
            finally:
                self.under_way -= 1

    async def main() -> None:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        engine = Counting(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=MemoryStore(faults),
            engine=engine,
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_inflight_windows=1),
            monitor=Silent(),
        )
        second = speech_like(np.random.default_rng(5), 20.0, 1).reshape(20, -1)
        await pipeline.assigned(TOPIC, 0, "sim", 0, 20)
        turns: list[int] = []

        async def watch(session: Session) -> None:
            for _ in range(8):
                turns.append(session.orderer.next_sequence)
                await asyncio.sleep(0)

        for offset, n in enumerate([*range(1, 20), 0]):
            if n == 0:
                (session,) = pipeline._partitions[TOPIC, 0].sessions.values()
                watching = asyncio.ensure_future(watch(session))
            headers = tuple(chunk(n, n * 16_000))
            await pipeline.handle(Record(TOPIC, 0, offset, b"call", second[n].tobytes(), headers, 0))
        await watching
        assert session.orderer.next_sequence == 20
        assert len({n for n in turns if n < 20}) > 1
        assert engine.most <= 2  # what one chunk of one second may complete
        await pipeline.drain(60.0)

    run(main())


def many_sessions(**changes: object) -> tuple[MemoryStore, int, int]:
    """Forty sessions of two seconds that never end, side by side: the store, most open at a time, most bytes held."""

    async def main() -> tuple[MemoryStore, int, int]:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store, most, held = MemoryStore(faults), 0, 0
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, **changes),
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 1 << 20)
        offset = 0
        for n in range(20):
            for stream in range(40):
                key = SessionKey("default", f"s{stream}", "u")
                headers = chunk_headers(key, n, n * CHUNK, CONTENT % 1, source="test")
                record_key = key.stream_id.encode()
                await pipeline.handle(
                    Record(TOPIC, 0, offset, record_key, ONE_TENTH, tuple(headers), n * 100 + stream)
                )
                offset += 1
            await asyncio.sleep(0.1)
            await pipeline.tick()
            sessions = pipeline._partitions[TOPIC, 0].sessions.values()
            most, held = max(most, len(sessions)), max(held, sum(s.held_bytes for s in sessions))
        for _ in range(100):
            pipeline.at_end(TOPIC, 0, offset)
            await pipeline.tick()
            await asyncio.sleep(1.0)
        await pipeline.drain(60.0)
        return store, most, held

    found: tuple[MemoryStore, int, int] = run(main())
    return found


def test_open_sessions_are_bounded_and_lose_nothing() -> None:
    store, most, _ = many_sessions(max_sessions=8)
    assert most <= 8
    assert not store.dead
    assert len(store.positions) >= 80
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {20 * CHUNK}


def test_the_bytes_that_all_sessions_hold_are_bounded_and_lose_nothing() -> None:
    _, _, free = many_sessions()
    store, _, held = many_sessions(max_held_bytes=500_000)
    assert held <= 500_000 < free
    assert not store.dead
    assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {20 * CHUNK}


@pytest.mark.parametrize(
    "limit", [{"idle_flush_s": 1.0}, {"max_held_bytes": 100_000}], ids=["idle", "memory"]
)
def test_many_sessions_that_are_flushed_at_once_do_not_flood_the_engine(limit: dict[str, Any]) -> None:
    """Each has a window open that the flush completes: the engine gets them as it has room."""

    @dataclass
    class Counting(HashEngine):
        under_way: int = 0
        most: int = 0

        async def analyse(self, window: Window, *args: Any, **kwargs: Any) -> Analysis:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                return await super().analyse(window, *args, **kwargs)
            finally:
                self.under_way -= 1

    async def main() -> tuple[MemoryStore, Counting]:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store, engine = MemoryStore(faults), Counting(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=engine,
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_inflight_windows=2, **limit),
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 20)
        second = bytes(32_000)
        for n in range(20):
            key = SessionKey("default", f"s{n}", "u")
            headers = tuple(chunk_headers(key, 0, 0, CONTENT % 1, source="test"))
            await pipeline.handle(Record(TOPIC, 0, n, key.stream_id.encode(), second, headers, n))
        while store.offsets.get((TOPIC, 0)) != 20:
            assert loop.time() < 200
            pipeline.at_end(TOPIC, 0, 20)
            await pipeline.tick()
            await asyncio.sleep(0.2)
        await pipeline.drain(10.0)
        return store, engine

    store, engine = run(main())
    assert sum(type(m).__name__ == "Caption" for m in store.rows.values()) == 20
    assert engine.most <= 3  # one session's two tracks may go past the limit


def test_chunks_missing_before_a_bad_one_are_recorded() -> None:
    scenario = log_of(seconds=3.0)
    del scenario.records[25:], scenario.arrival_s[25:]
    scenario.append(3.0, b"call", GOOD[:-1], chunk(26, 26 * CHUNK))
    store = settle(scenario, idle_flush_s=5.0)
    assert [d.reason for d in store.dead.values()] == ["truncated"]
    assert [(g.first_sequence, g.last_sequence) for g in store.gaps.values()] == [(25, 25)]


def test_an_answer_that_is_no_valid_message_is_poison_and_shows_no_text() -> None:
    class Absurd(HashEngine):
        async def analyse(self, window: Window, *args: Any, **kwargs: Any) -> Analysis:
            answer = TextAnswer("transcript", "canary", "en", float("nan"), None, None)
            return Analysis(
                answers=(answer, replace(answer, task="caption")), model_name="m", model_version="1"
            )

    faults = Faults(random.Random(1))
    store = MemoryStore(faults)
    run(play(log_of(), store, Absurd(faults), MemoryPublisher(faults), faults))
    assert {d.reason for d in store.dead.values()} == {"poison"}
    assert all("confidence" in d.detail and "canary" not in d.detail for d in store.dead.values())
    assert all(state.ended for state in store.sessions.values())


def test_silence_that_stays_open_is_asked_for_once_per_step() -> None:
    class Counting(MemoryStore):
        asked = 0

        async def talk_intervals(self, *args: Any) -> list[tuple[int, int, int, int]]:
            self.asked += 1
            return await super().talk_intervals(*args)

    scenario = Scenario(sessions=[KEY])
    for sequence in range(300):  # 30 s of silence: six steps
        scenario.append(sequence / 10, b"call", ONE_TENTH, chunk(sequence, sequence * CHUNK))
        scenario.append(sequence / 10, b"x", b"rubbish", [])  # each gives a commit
    faults = Faults(random.Random(1))
    store = Counting(faults)
    run(
        play(
            scenario,
            store,
            HashEngine(faults),
            MemoryPublisher(faults),
            faults,
            replace(LIMITS, idle_flush_s=5.0),
        )
    )
    assert store.asked <= 10


def test_a_busy_partition_whose_end_is_never_reached_flushes_idle_sessions() -> None:
    quiet, busy = SessionKey("default", "quiet", "q"), SessionKey("default", "busy", "b")
    scenario = Scenario(sessions=[busy])
    for sequence in range(1000):
        for key, most in ((quiet, 10), (busy, 1000)):
            if sequence < most:
                headers = chunk_headers(key, sequence, sequence * 320, CONTENT % 1, source="test")
                scenario.append(sequence / 50, key.stream_id.encode(), bytes(640), headers)
    faults = Faults(random.Random(1))
    publisher = MemoryPublisher(faults)
    flushed_at: list[int] = []

    class Watching(MemoryStore):
        async def commit(self, commit: Commit) -> None:
            await super().commit(commit)
            if any(p.key == quiet and p.track == "scene" for p in commit.positions):
                flushed_at.append(commit.next_offset)

    store = Watching(faults)
    written = scenario.arrival_s

    async def main() -> None:
        loop = asyncio.get_running_loop()
        limits = replace(LIMITS, idle_flush_s=5.0)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=publisher,
            limits=limits,
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 0)
        next_tick_s = 0.2
        for record, at_s in zip(scenario.records, [w + 0.05 for w in written], strict=True):
            while next_tick_s <= at_s:
                await asyncio.sleep(max(0.0, next_tick_s - loop.time()))
                pipeline.at_end(TOPIC, 0, sum(w <= loop.time() for w in written))
                await pipeline.tick()
                next_tick_s += 0.2
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            await pipeline.handle(record)
        await pipeline.drain(10.0)

    run(main())
    assert flushed_at  # while the other session was still speaking


def test_a_chunk_that_nothing_follows_does_not_pin_a_partition_that_is_clear_only_now_and_then() -> None:
    """Each record is read within a second, yet at every other tick one is still to be read."""

    async def main() -> None:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = MemoryStore(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, idle_flush_s=5.0),
            monitor=Silent(),
        )
        quiet = [chunk(0, 0), chunk(1, WILD[0])]
        await pipeline.assigned(TOPIC, 0, "sim", 0, 2)
        for offset, headers in enumerate(quiet):
            await pipeline.handle(Record(TOPIC, 0, offset, b"call", ONE_TENTH, tuple(headers), 0))
        busy, sent = SessionKey("default", "busy", "b"), 0
        for turn in range(400):
            behind = turn % 2  # a record that has been written, and comes only after the next tick
            if not behind:
                for _ in range(2 if turn else 1):
                    headers = chunk_headers(busy, sent, sent * 1600, CONTENT % 1, source="t")
                    stamp_ms = round(loop.time() * 1000)
                    await pipeline.handle(
                        Record(TOPIC, 0, 2 + sent, b"busy", ONE_TENTH, tuple(headers), stamp_ms)
                    )
                    sent += 1
            pipeline.at_end(TOPIC, 0, 2 + sent + 1)
            await pipeline.tick()
            await asyncio.sleep(0.5)
        assert [(d.reason, d.offset) for d in store.dead.values()] == [("far_ahead", 1)]
        assert store.offsets[TOPIC, 0] > 2
        await pipeline.drain(10.0)

    run(main())


def test_a_tick_that_comes_late_gives_nothing_up_that_is_still_to_be_read() -> None:
    async def main() -> None:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = MemoryStore(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=LIMITS,
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 2)
        for offset, n in enumerate((0, 2)):
            headers = tuple(chunk(n, n * CHUNK))
            await pipeline.handle(Record(TOPIC, 0, offset, b"call", ONE_TENTH, headers, 0))
        await pipeline.tick()
        await asyncio.sleep(600.0)  # the process was held up; meanwhile chunk 1 was written
        pipeline.at_end(TOPIC, 0, 3)
        await pipeline.tick()
        await pipeline.handle(Record(TOPIC, 0, 2, b"call", ONE_TENTH, tuple(chunk(1, CHUNK)), 0))
        await pipeline.drain(10.0)
        assert not store.dead
        assert not store.gaps

    run(main())


def test_a_window_revoked_before_its_first_step_gives_its_place_back() -> None:
    async def main() -> None:
        faults, clock = Faults(random.Random(1)), asyncio.get_running_loop().time
        pipeline = Pipeline(
            clock=clock,
            store=MemoryStore(faults),
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_inflight_windows=1),
            monitor=Silent(),
        )
        scenario = log_of(seconds=30.0)
        async with asyncio.timeout(600):  # without its place back, the next window would wait for ever
            for turn in range(3):
                position = await pipeline.assigned(TOPIC, 0, "sim", 0, len(scenario.records))
                for record in scenario.records[position:]:
                    await pipeline.handle(record)
                    if pipeline._inflight and turn < 2:
                        break
                await pipeline.revoked(TOPIC, 0)

    run(main())


def test_an_end_that_was_unknown_for_a_while_does_not_keep_a_session_from_being_idle() -> None:
    async def main() -> None:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = MemoryStore(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, idle_flush_s=5.0),
            monitor=Silent(),
        )
        scenario = log_of()
        total = len(scenario.records) - 1  # without its end
        await pipeline.assigned(TOPIC, 0, "sim", 0, total)
        for record in scenario.records[:total]:
            await pipeline.handle(record)
        for tick in range(100):
            pipeline.at_end(TOPIC, 0, total + 1 if tick < 20 else total)
            await pipeline.tick()
            await asyncio.sleep(0.2)
        assert {p.sample for (_, _, t), p in store.positions.items() if t != "dialog"} == {96_000}
        await pipeline.drain(0.0)

    run(main())


@pytest.mark.parametrize("seconds", [7.0, 9.0, 12.0])
def test_dialog_events_of_a_session_that_never_goes_on_survive_a_crash(seconds: float) -> None:
    """Speech is committed, the process dies before its dialog events are, and no chunk ever comes again."""

    @dataclass
    class Dies(MemoryStore):
        tried: set[str] = field(default_factory=set)

        async def commit(self, commit: Commit) -> list[Any]:
            dialog = {e.ce_id for e in commit.events if e.event_type in ("non_talk", "talk_share")}
            if not dialog <= self.tried:
                self.tried |= dialog
                raise Crash("before dialog events that are tried for the first time")
            return await super().commit(commit)

    scenario = log_of(seconds=seconds)
    del scenario.records[-1], scenario.arrival_s[-1]  # without its end, in the middle of speech
    often = replace(LIMITS.session, dialog=DialogConfig(share_every=16_000))
    limits = replace(LIMITS, idle_flush_s=5.0, session=often)
    found = []
    for kind in (MemoryStore, Dies):
        faults = Faults(random.Random(1))
        store, publisher = kind(faults), MemoryPublisher(faults)
        restarts = run(play(scenario, store, HashEngine(faults), publisher, faults, limits))
        assert (restarts > 0) is (kind is Dies)
        assert not store.dead
        assert not store.duplicates
        found.append({m.ce_id: m for m in store.rows.values()})
    calm, crashed = found
    assert any(m.event_type == "talk_share" for m in calm.values() if hasattr(m, "event_type"))
    assert crashed == calm


def test_more_sessions_than_may_be_open_take_turns_many_at_a_time() -> None:
    """Each new session needs one that is flushed and committed; that happens for an eighth of them at once."""

    @dataclass
    class Counting(MemoryStore):
        commits: int = 0

        async def commit(self, commit: Commit) -> list[Any]:
            self.commits += 1
            return await super().commit(commit)

    async def main() -> tuple[Counting, int]:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = Counting(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_sessions=64),
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 1 << 20)
        for stream in range(640):
            key = SessionKey("default", f"s{stream}", "u")
            headers = chunk_headers(key, 0, 0, CONTENT % 1, source="test")
            await pipeline.handle(
                Record(TOPIC, 0, stream, key.stream_id.encode(), ONE_TENTH, tuple(headers), stream)
            )
            assert len(pipeline._partitions[TOPIC, 0].sessions) <= 64
        commits = store.commits
        for _ in range(100):
            pipeline.at_end(TOPIC, 0, 640)
            await pipeline.tick()
            await asyncio.sleep(1.0)
        assert await pipeline.drain(60.0)
        return store, commits

    store, commits = run(main())
    assert len(store.sessions) == 640
    assert not store.dead
    assert commits <= 2 * 576 / 8  # of 576 that had to wait for room, eight share a commit that lets some go


def test_a_session_that_waits_for_a_chunk_after_its_flush_makes_room_for_another() -> None:
    """It was flushed for memory; while its windows were at the engine it went on, and a chunk of it was lost."""

    async def main() -> MemoryStore:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = MemoryStore(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_sessions=1, max_held_bytes=1),
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 1 << 20)
        records = log_of().records
        for record in records[:20]:
            await pipeline.handle(record)
        await pipeline.tick()  # flushes it
        await pipeline.handle(replace(records[21], offset=20))
        async with asyncio.timeout(3600):
            await pipeline.handle(Record(TOPIC, 0, 21, b"other", ONE_TENTH, tuple(OTHER), 0))
        assert await pipeline.drain(60.0)
        return store

    store = run(main())
    assert [(g.first_sequence, g.last_sequence) for g in store.gaps.values()] == [(20, 20)]


def test_an_end_that_is_flushed_with_its_session_is_read_again_until_the_session_is_closed() -> None:
    """A chunk is missing before it, so it waits; memory is short, so it waits no longer; then the process may die."""

    @dataclass
    class Keeps(MemoryStore):
        async def commit(self, commit: Commit) -> list[Any]:
            new = await super().commit(commit)
            assert commit.next_offset < 60 or self.sessions[KEY].ended, "the end would not be read again"
            return new

    async def main() -> Keeps:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store = Keeps(faults)
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=replace(LIMITS, max_held_bytes=1),
            monitor=Silent(),
        )
        scenario = log_of()
        del scenario.records[59]  # the last chunk; the end is now at offset 59
        await pipeline.assigned(TOPIC, 0, "sim", 0, 1 << 20)
        for offset, record in enumerate(scenario.records):
            await pipeline.handle(replace(record, offset=offset))
        await pipeline.tick()
        finished = await pipeline.drain(60.0)
        if pipeline.failed.done():
            pipeline.failed.result()
        assert finished
        return store

    assert run(main()).sessions[KEY].ended


def test_a_crash_between_the_commits_of_two_tracks_changes_no_row() -> None:
    """Speech is stored and its scene is not, and the other way round; then the process dies."""

    @dataclass
    class Dies(MemoryStore):
        deaths: int = 0

        async def commit(self, commit: Commit) -> list[Any]:
            new = await super().commit(commit)
            if bool(commit.transcripts) != bool(commit.captions) and self.deaths < 6:
                self.deaths += 1
                raise Crash("after one track, before the other")
            return new

    scenario = log_of(seconds=40.0)
    faults = Faults(random.Random(1))
    store, publisher = Dies(faults), MemoryPublisher(faults)
    assert run(play(scenario, store, HashEngine(faults), publisher, faults)) == 6
    assert texts(store) == expected_texts(scenario)
    assert not store.dead
    assert not store.duplicates


def test_a_crash_in_an_hour_of_hold_music_reads_little_again() -> None:
    """Music that is never speech: silence steps and scenes move the offset, so a restart at any moment begins near."""
    rng, t = np.random.default_rng(3), np.arange(16_000) / 16_000
    chord = sum(np.sin(2 * np.pi * f * t) for f in (262, 330, 392)) * 300
    bars = [(chord + rng.normal(0, 5, len(t))).astype("<i2").tobytes() for _ in range(60)]

    async def main() -> int:
        faults, loop = Faults(random.Random(1)), asyncio.get_running_loop()
        store, most_s = MemoryStore(faults), 0
        pipeline = Pipeline(
            clock=loop.time,
            store=store,
            engine=HashEngine(faults),
            publisher=MemoryPublisher(faults),
            limits=LIMITS,
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "sim", 0, 0)
        for n in range(3600):
            await asyncio.sleep(n + 1 - loop.time())
            headers = tuple(chunk_headers(KEY, n, n * 16_000, CONTENT % 1, source="test"))
            await pipeline.handle(Record(TOPIC, 0, n, b"call", bars[n % 60], headers, n * 1000))
            most_s = max(most_s, n + 1 - store.offsets.get((TOPIC, 0), 0))
        await pipeline.drain(0.0)
        return most_s

    most_s: int = run(main())
    # a hop of 10 s, what the engine takes for its scene, warm-up and slack before it; in whole chunks of a second
    assert 10 < most_s <= 10 + 3 + 2


def test_a_database_outage_with_many_live_streams_cuts_none_as_idle() -> None:
    class Outage(Faults):
        def strike(self, place: str) -> None:
            if 3.0 < asyncio.get_running_loop().time() < 63.0:
                raise Unavailable(place)

    scenario = write_log(11, streams=12, seconds=20.0)
    store = settle(scenario, Outage(random.Random(4)), idle_flush_s=5.0)
    assert texts(store) == expected_texts(scenario)
    assert all(store.sessions[key].ended for key in scenario.sessions)
    assert {letter.reason for letter in store.dead.values()} <= {"missing_header", "after_end"}
