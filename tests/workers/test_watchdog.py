"""The watchdog speaks when work waits and nothing moves, and at no other time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from faust.types import TP
from faust.types.tuples import Message

from streams.errors import Unavailable
from streams.windows import Window
from tests.sim.loop import run
from tests.sim.scenario import LIMITS, TOPIC, Scenario, write_log
from tests.sim.world import Faults, HashEngine, MemoryPublisher, MemoryStore, Silent
from tests.workers.recorder import Offsets, Recorder
from workers.app import Edge
from workers.pipeline import Pipeline
from workers.pool import Analysis
from workers.settings import Settings
from workers.watchdog import LONGEST_LOOK_S, Pulse, Stalled, Watchdog

WORK = ("p-0: 7 records to read",)


def test_work_without_a_move_is_a_standstill_once_the_limit_is_over() -> None:
    dog = Watchdog(10.0)
    for second in range(10):
        dog.look(float(second), Pulse(1, WORK))
    assert dog.stalled_s == 9.0
    with pytest.raises(Stalled, match="nothing moved for 10 s: p-0: 7 records to read"):
        dog.look(10.0, Pulse(1, WORK))


def test_any_move_begins_anew() -> None:
    dog = Watchdog(10.0)
    for second in range(100):
        dog.look(float(second), Pulse(second // 9, WORK))


def test_nothing_to_do_is_no_standstill_however_long() -> None:
    dog = Watchdog(10.0)
    for second in range(100):
        dog.look(float(second), Pulse(1))
    dog.look(100.0, Pulse(1, WORK))
    assert dog.stalled_s == 1.0


def test_time_in_which_nobody_looked_counts_as_one_look() -> None:
    dog = Watchdog(10.0)
    dog.look(0.0, Pulse(1, WORK))
    dog.look(3600.0, Pulse(1, WORK))  # the process was stopped, or the machine slept
    assert dog.stalled_s == LONGEST_LOOK_S


class Outage(Faults):
    """A store that refuses for ten minutes."""

    def strike(self, place: str) -> None:
        if "commit" in place and 2.0 < asyncio.get_running_loop().time() < 602.0:
            raise Unavailable(place)


class Hanging(HashEngine):
    """Never answers, nor says why."""

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def guarded(scenario: Scenario, faults: Faults, engine: HashEngine, until_s: float) -> MemoryStore:
    """A pipeline over the whole log at once, looked at every second as the edge does."""
    loop = asyncio.get_running_loop()
    store, total = MemoryStore(faults), len(scenario.records)
    limits = replace(LIMITS, idle_flush_s=5.0)
    pipeline = Pipeline(
        clock=loop.time,
        store=store,
        engine=engine,
        publisher=MemoryPublisher(faults),
        limits=limits,
        monitor=Silent(),
    )
    await pipeline.assigned(TOPIC, 0, "sim", 0, total)

    async def feed() -> None:
        for record in scenario.records:
            await pipeline.handle(record)

    feeding = asyncio.ensure_future(feed())
    dog = Watchdog(60.0)
    try:
        while loop.time() < until_s:
            await asyncio.sleep(1.0)
            pipeline.at_end(TOPIC, 0, total)
            await pipeline.tick()
            pulse = pipeline.pulse()
            lag = total - (pipeline.position(TOPIC, 0) or 0)
            dog.look(loop.time(), replace(pulse, work=(*pulse.work, "lag") if lag else pulse.work))
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await pipeline.drain(0.0)
    assert store.offsets[TOPIC, 0] == total
    return store


def test_a_database_that_is_away_and_an_idle_worker_are_no_standstill() -> None:
    faults = Outage(random.Random(1))
    store = run(guarded(write_log(1), faults, HashEngine(faults), 3600.0))
    assert store.rows


def test_an_engine_that_never_answers_is_a_standstill() -> None:
    faults = Faults(random.Random(1))
    with pytest.raises(Stalled, match="windows at the engine"):
        run(guarded(write_log(1), faults, Hanging(faults), 3600.0))


@dataclass
class Group:
    """The edge's consumer as far as a look at it goes: who has which partition, and where the broker's log ends."""

    taken: list[TP] = field(default_factory=list)
    turn: int | None = 1
    turns: int = 1
    end: int = 0
    untaken = False

    def fetched_highwater(self, tp: TP, max_age_s: float) -> int:
        return self.end


async def watched(script: Callable[[Edge, Recorder, Group], Awaitable[None]]) -> None:
    """Run the script beside the guard of a real edge, on the loop's clock. Raises Stalled."""
    recorder, group = Recorder(Offsets()), Group()
    edge = Edge(Settings(stall_after_s=300.0), recorder)
    edge.app.consumer = group
    guard, scripted = (
        asyncio.ensure_future(edge._guarding()),
        asyncio.ensure_future(script(edge, recorder, group)),
    )
    try:
        await asyncio.wait([guard, scripted], return_when=asyncio.FIRST_COMPLETED)
        (guard if guard.done() else scripted).result()
    finally:
        for task in (guard, scripted):
            task.cancel()
        await asyncio.gather(guard, scripted, return_exceptions=True)


def rebalancing(for_s: float) -> Any:
    async def script(edge: Edge, recorder: Recorder, group: Group) -> None:
        for _ in range(3):
            group.turn = None
            await asyncio.sleep(for_s)
            group.turns += 1
            group.turn = group.turns
            await asyncio.sleep(1.0)

    return watched(script)


def test_a_rebalance_may_take_long_and_not_for_ever() -> None:
    run(rebalancing(290.0))
    with pytest.raises(Stalled, match="nothing moved for 300 s: the group rebalances"):
        run(rebalancing(310.0))


def reading_again(offset_at: Callable[[int], int]) -> Any:
    """A stored position far ahead of what is read, as after a reset of the offset: one record every two seconds."""

    async def script(edge: Edge, recorder: Recorder, group: Group) -> None:
        tp = TP("chunks", 0)
        group.taken, group.end = [tp], 10_000
        recorder.offsets.next_offset[tp] = 9_000
        await recorder.assigned(*tp, "k", 0, group.end)
        for number in range(600):
            headers: Any = None
            await edge._deliver(Message(*tp, offset_at(number), 0.0, 0, headers, b"", b"", None, None, None))
            await asyncio.sleep(2.0)
        assert recorder.records == []

    return watched(script)


def test_reading_over_old_records_is_no_standstill_but_reading_the_same_again_is() -> None:
    run(reading_again(lambda number: number))
    with pytest.raises(Stalled, match="chunks-0: 1000 records to read"):
        run(reading_again(lambda number: number % 50))
