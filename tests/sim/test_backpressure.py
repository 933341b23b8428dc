"""More than the engine can do: memory stays bounded, transcripts all come, captions are shed only where that is set."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from streams.windows import Window
from tests.sim.loop import run
from tests.sim.scenario import LIMITS, TOPIC, Scenario, expected_texts, write_log
from tests.sim.world import Faults, HashEngine, MemoryPublisher, MemoryStore
from workers.pipeline import Pipeline, PipelineLimits
from workers.pool import Analysis

SHED_S = 20.0


@dataclass
class OneAtATime(HashEngine):
    """An engine that needs `pace` seconds for a second of a window, one after the other: four streams are too many."""

    pace: float = 0.75
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    most: int = 0
    under_way: int = 0

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            async with self.busy:
                await asyncio.sleep(self.pace * len(window.audio) / 16_000)
                return await super().analyse(window, tasks, deadline_s=deadline_s, interactive=interactive)
        finally:
            self.under_way -= 1


@dataclass
class Counting:
    """A monitor that keeps its counters."""

    counts: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, amount: int = 1, **attributes: str) -> None:
        self.counts[name] += amount

    def duration(self, name: str, seconds: float, **attributes: str) -> None: ...


@dataclass
class Outcome:
    """What is left of an overloaded run."""

    store: MemoryStore
    publisher: MemoryPublisher
    monitor: Counting
    engine: OneAtATime
    most_lag: int


async def overload(scenario: Scenario, faults: Faults, limits: PipelineLimits, pace: float = 0.75) -> Outcome:
    """Records come at live pace, the engine does not keep up, until everything is read and committed."""
    loop = asyncio.get_running_loop()
    store, publisher, monitor = MemoryStore(faults), MemoryPublisher(faults), Counting()
    engine, total = OneAtATime(faults, pace=pace), len(scenario.records)
    pipeline = Pipeline(
        clock=loop.time,
        store=store,
        engine=engine,
        publisher=publisher,
        limits=limits,
        monitor=monitor,
        wall_clock=loop.time,  # as the time stamps
    )
    await pipeline.assigned(TOPIC, 0, "sim", 0, 0)

    async def feed() -> None:
        for record, at_s in zip(scenario.records, scenario.arrival_s, strict=True):
            await asyncio.sleep(max(0.0, at_s - loop.time()))
            await pipeline.handle(record)

    feeding, most_lag = asyncio.ensure_future(feed()), 0
    while not feeding.done() or store.offsets.get((TOPIC, 0)) != total or store.unpublished:
        assert loop.time() < 7200, f"stuck at {store.offsets} of {total}"
        await asyncio.sleep(0.2)
        written = sum(1 for at_s in scenario.arrival_s if at_s <= loop.time())
        most_lag = max(most_lag, written - (pipeline.position(TOPIC, 0) or 0))
        pipeline.at_end(TOPIC, 0, written)
        await pipeline.tick()
    await feeding
    assert await pipeline.drain(1.0)
    return Outcome(store, publisher, monitor, engine, most_lag)


def overloaded(seed: int, **changes: object) -> tuple[Scenario, Outcome]:
    scenario = write_log(seed, streams=4, seconds=60.0)
    faults = Faults(random.Random(seed))
    limits = replace(LIMITS, max_inflight_windows=4, live_lag_records=10, **changes)  # type: ignore[arg-type]
    outcome: Outcome = run(overload(scenario, faults, limits))
    return scenario, outcome


def texts(store: MemoryStore) -> set[tuple[str, str, int, str]]:
    rows = [m for m in store.rows.values() if type(m).__name__ != "Event"]
    return {(type(m).__name__, m.stream_id, m.channel, m.text) for m in rows}


def test_what_the_engine_cannot_do_yet_waits_in_kafka() -> None:
    scenario, outcome = overloaded(1)
    assert outcome.most_lag > 200  # the lag shows it …
    assert (
        outcome.engine.most <= 4 + 2 * 3
    )  # … and no more waits here than one record may complete beyond the limit
    assert texts(outcome.store) == expected_texts(scenario)
    assert outcome.monitor.counts["eureka.windows.shed"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_old_captions_are_shed_before_any_transcript_and_each_leaves_a_letter(seed: int) -> None:
    scenario, outcome = overloaded(seed, shed_scenes_after_s=SHED_S)
    wanted, got = expected_texts(scenario), texts(outcome.store)
    assert {t for t in wanted if t[0] == "Transcript"} == {t for t in got if t[0] == "Transcript"}
    letters = [d for d in outcome.store.dead.values() if d.reason == "shed"]
    places = {(d.stream_id, d.channel, d.start_sample, d.end_sample) for d in letters}
    left_out = {(stream, channel, *map(int, text.split()[1:3])) for _, stream, channel, text in wanted - got}
    assert letters
    assert places == left_out  # every window has one outcome
    assert len(letters) == len(places) == outcome.monitor.counts["eureka.windows.shed"]
    assert {d.track for d in letters} == {"scene"}
    sent = set(outcome.store.rows) | {letter.ce_id for letter in outcome.store.dead.values()}
    assert set(outcome.publisher.sent) == sent


def test_a_live_stream_whose_clock_is_an_hour_slow_is_not_shed() -> None:
    async def main() -> Outcome:
        scenario = write_log(5, streams=1, seconds=20.0)
        scenario.records = [replace(r, timestamp_ms=r.timestamp_ms - 3_600_000) for r in scenario.records]
        faults = Faults(random.Random(5))
        return await overload(scenario, faults, replace(LIMITS, shed_scenes_after_s=SHED_S), pace=0.1)

    outcome: Outcome = run(main())
    assert outcome.monitor.counts["eureka.windows.shed"] == 0
    assert not [d for d in outcome.store.dead.values() if d.reason == "shed"]
