"""Crashes, lost dependencies, duplicates and reorderings at seeded points change no row: nothing missing,
nothing twice.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import pytest

from streams.audio import Pcm
from streams.messages import Chunk, DeadLetter, SessionEnd, SessionKey, end_headers
from streams.resample import position
from streams.windows import SessionCutter
from tests.sim.loop import run
from tests.sim.scenario import LIMITS, Scenario, dirty_log, expected_texts, play, write_log
from tests.sim.world import Faults, HashEngine, MemoryPublisher, MemoryStore
from workers.session import Session, Step

DIRTY_SEEDS = int(os.environ.get("EUREKA_SIM_SEEDS", "12"))  # more find more, and take longer


def simulate(
    scenario: Scenario, faults: Faults, poison: str = "none"
) -> tuple[MemoryStore, MemoryPublisher, int]:
    """One run of a scenario; returns what survived."""
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    restarts = run(play(scenario, store, HashEngine(faults, poison), publisher, faults))
    return store, publisher, restarts


def texts(store: MemoryStore) -> set[tuple[str, str, int, str]]:
    return {
        (type(m).__name__, m.stream_id, m.channel, m.text)
        for m in store.rows.values()
        if type(m).__name__ != "Event"
    }


@pytest.mark.parametrize("seed", range(12))
def test_crashes_change_no_row(seed: int) -> None:
    scenario = write_log(seed, lost=0.01 if seed % 3 == 0 else 0.0)
    calm, _, _ = simulate(scenario, Faults(random.Random(seed)))
    assert texts(calm) == expected_texts(scenario)
    store, publisher, restarts = simulate(
        scenario, Faults(random.Random(seed + 1000), crash=0.04, unavailable=0.02, crashes_left=15)
    )
    assert restarts > 0
    assert {i: m.model_dump() for i, m in store.rows.items()} == {
        i: m.model_dump() for i, m in calm.rows.items()
    }
    assert set(publisher.sent) == set(store.rows) | {letter.ce_id for letter in store.dead.values()}
    assert set(store.dead) == set(calm.dead)
    assert len([d for d in store.dead.values() if d.reason in ("missing_header", "schema")]) == scenario.bad
    assert set(store.duplicates) == set(calm.duplicates)
    assert set(store.gaps) == set(calm.gaps)
    assert all(store.sessions[key].ended for key in scenario.sessions)


DIRTY = replace(
    LIMITS,
    idle_flush_s=5.0,
    session=replace(
        LIMITS.session, max_sequence_jump=1000, cutter=replace(LIMITS.session.cutter, scene_min_s=0.001)
    ),
)


def outcomes(scenario: Scenario, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What became of each record of a dirty log: placed, duplicate, or the reason of its dead letter."""
    placed: dict[int, tuple[SessionKey, int]] = {}  # by any life of the process: the last sample of the chunk
    ended: set[int] = set()
    add, end = SessionCutter.add, Session._end

    def adding(self: SessionCutter, chunk: Chunk, pcm: Pcm, missing: Any) -> Any:
        out = add(self, chunk, pcm, missing)
        last = position(chunk.start_sample + pcm.samples.shape[1], pcm.rate) - 1
        placed[chunk.origin.offset] = (chunk.key, last)
        return out

    def ending(self: Session, message: SessionEnd) -> list[Step]:
        ended.add(message.origin.offset)
        return end(self, message)

    with monkeypatch.context() as patched:
        patched.setattr(SessionCutter, "add", adding)
        patched.setattr(Session, "_end", ending)
        store, publisher = MemoryStore(faults), MemoryPublisher(faults)
        run(play(scenario, store, HashEngine(faults), publisher, faults, DIRTY))
    assert set(publisher.sent) == set(store.rows) | {letter.ce_id for letter in store.dead.values()}
    found: dict[int, list[str]] = {record.offset: [] for record in scenario.records}
    for letter in store.dead.values():
        found[letter.offset].append(letter.reason)
    for row in store.duplicates.values():
        found[row.origin.offset].append("duplicate")
    heard = [m for m in store.rows.values() if type(m).__name__ == "Caption" and m.channel == 0]
    for offset, fates in found.items():
        key, last = placed.get(offset, (None, 0))
        if offset in ended or any(m.key == key and m.start_sample <= last < m.end_sample for m in heard):
            found[offset] = fates or [
                "placed"
            ]  # refused in the end, where nothing of its place was committed yet
    return found


@pytest.mark.parametrize("seed", range(DIRTY_SEEDS))
def test_every_record_of_a_dirty_log_has_one_outcome(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = dirty_log(seed)
    for faults in (
        Faults(random.Random(seed)),
        Faults(random.Random(seed + 1000), crash=0.06, unavailable=0.02, crashes_left=12),
    ):
        found = outcomes(scenario, faults, monkeypatch)
        assert {offset: fates for offset, fates in found.items() if len(fates) != 1} == {}


def test_every_duplicate_is_recorded() -> None:
    scenario = write_log(7)
    store, _, _ = simulate(scenario, Faults(random.Random(7)))
    assert scenario.duplicates > 0
    late_ends = sum(letter.reason == "after_end" for letter in store.dead.values())
    assert len(store.duplicates) + late_ends == scenario.duplicates


def test_a_poison_window_becomes_a_dead_letter_and_its_neighbours_stay() -> None:
    scenario = write_log(3)
    calm, _, _ = simulate(scenario, Faults(random.Random(3)))
    digest = sorted(t[3].split()[-1] for t in texts(calm))[0]
    store, _, _ = simulate(scenario, Faults(random.Random(3), crash=0.02), poison=digest)
    assert texts(calm) - texts(store) == {t for t in texts(calm) if t[3].endswith(digest)}
    poisoned = [letter for letter in store.dead.values() if letter.reason == "poison"]
    assert len(poisoned) == 1
    assert isinstance(poisoned[0], DeadLetter)


def test_a_session_without_an_end_is_flushed_when_idle() -> None:
    scenario = write_log(5)
    last = len(scenario.records)
    cut = Scenario(
        [r for r in scenario.records[:last] if dict(r.headers)["ce_type"] != b"audio.end.v1"],
        [],
        scenario.sessions,
    )
    cut.records = [replace(r, offset=i) for i, r in enumerate(cut.records)]
    cut.arrival_s = [r.timestamp_ms / 1000 for r in cut.records]
    faults = Faults(random.Random(5))
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    run(play(cut, store, HashEngine(faults), publisher, faults, replace(LIMITS, idle_flush_s=5.0)))
    assert texts(store) == expected_texts(cut)
    assert not any(store.sessions[key].ended for key in cut.sessions)


@pytest.mark.parametrize("seed", range(4))
def test_a_session_goes_on_after_an_idle_flush(seed: int) -> None:
    scenario = write_log(40 + seed, streams=1)
    middle = len(scenario.records) // 2
    stamped = [r.timestamp_ms + (30_000 if r.offset >= middle else 0) for r in scenario.records]
    scenario.records = [
        replace(r, timestamp_ms=at_ms) for r, at_ms in zip(scenario.records, stamped, strict=True)
    ]
    scenario.arrival_s = [at_ms / 1000 for at_ms in stamped]
    faults = Faults(random.Random(seed), crash=0.02 * (seed % 2))
    store, publisher = MemoryStore(faults), MemoryPublisher(faults)
    run(play(scenario, store, HashEngine(faults), publisher, faults, replace(LIMITS, idle_flush_s=5.0)))
    (key,) = scenario.sessions
    chunks = {dict(r.headers).get("ce_id"): r.value or b"" for r in scenario.records if r.value != b"rubbish"}
    total = sum(len(value) // 2 for value in chunks.values())
    assert store.sessions[key].ended
    assert {p.sample for (_, _, track), p in store.positions.items() if track != "dialog"} == {total}
    assert {d.reason for d in store.dead.values()} <= {"missing_header", "after_end"}
    assert not store.gaps


def test_a_session_of_one_chunk_and_one_of_none() -> None:
    scenario = write_log(1, streams=1, seconds=0.1)
    empty = SessionKey("default", "s9", "empty")
    scenario.sessions.append(empty)
    scenario.append(5.0, b"s9", b"", end_headers(empty, 0, source="sim"))
    store, _, _ = simulate(scenario, Faults(random.Random(1)))
    assert store.sessions[scenario.sessions[0]].ended
    assert empty not in store.sessions  # its stream was never heard, and an end binds none
    assert not store.dead
