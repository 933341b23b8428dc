"""One simulated worker process: the production pipeline and gate, a consumer that reads its partitions, and its death.

In: partitions given and taken by the group (`cluster`), records of the logs. Out: calls of the pipeline, as
`workers.app` and `workers.source` make them. Invariants: all that a rebalance does to a worker goes through `let_go`
and `begin`, one after the other; after `die` it changes nothing any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from streams.messages import Record
from tests.sim.database import Database
from tests.sim.limits import TOPIC
from tests.sim.ports import Delivery, EnginePort, PublisherPort, StorePort
from tests.sim.weather import Weather
from tests.sim.world import Silent
from workers.gate import Gate, Verdict
from workers.pipeline import Pipeline, PipelineLimits

TICK_S = 0.2
CLUSTER = "sim"
RECORD_S = 0.0005  # a record takes some time, or a reader that gets nowhere would stop the clock
STEADY = 8  # records, more than there are partitions


class Broker:
    """The chunk topic: what of each log has arrived, and who may read it now."""

    def __init__(
        self, logs: Sequence[Sequence[tuple[float, Record]]], now_s: Callable[[], float], weather: Weather
    ) -> None:
        self._logs = logs
        self._now_s = now_s
        self._weather = weather
        self._ends = [0] * len(logs)

    @property
    def partitions(self) -> range:
        return range(len(self._logs))

    @property
    def away(self) -> bool:
        return self._weather.away("broker")

    def end(self, partition: int) -> int:
        """The offset after the last record that has arrived; while the broker is away, nothing arrives."""
        log, end = self._logs[partition], self._ends[partition]
        while not self.away and end < len(log) and log[end][0] <= self._now_s():
            end += 1
        self._ends[partition] = end
        return end

    def read(self, partition: int, offset: int) -> Record:
        return self._logs[partition][offset][1]


@dataclass(frozen=True)
class Surroundings:
    """What a worker lives in. `pipeline` is the production one, unless a test has broken it."""

    broker: Broker
    database: Database
    topics: list[Delivery]
    weather: Weather
    deadly: bool
    pipeline: type[Pipeline]
    limits: PipelineLimits


class Worker:
    """One life of a worker process."""

    def __init__(self, name: str, rng: random.Random, world: Surroundings) -> None:
        self.name = name
        self.dead = False
        self._leaving = False
        self._rng = rng
        self._world = world
        self._history = world.database.history
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fetch: dict[int, int] = {}  # partition → the offset that is read next
        self._turn: asyncio.Task[None] | None = None
        self._gate = Gate()
        self._steady = 0  # so many records are read in order: the same jump again and again would be a hole
        self.engine = EnginePort(rng, world.weather, world.deadly)
        self.pipeline = world.pipeline(
            clock=asyncio.get_running_loop().time,
            store=StorePort(world.database, self, world.weather),
            engine=self.engine,
            publisher=PublisherPort(world.topics, self._history, self, world.weather),
            limits=world.limits,
            monitor=Silent(),
        )

    async def live(self) -> BaseException | None:
        """From the start to the end of the process; the error that ended it, None where it was killed or asked to."""
        parts = [asyncio.ensure_future(self._reading()), asyncio.ensure_future(self._ticking())]
        ends: list[asyncio.Future[Any]] = [self._ended, *parts, self.pipeline.failed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        killed = self.dead or (self._ended.done() and not self._ended.exception())
        self.die("ended")
        error = next((e.exception() for e in ends if e.done() and not e.cancelled() and e.exception()), None)
        await _cancel(*parts, *([self._turn] if self._turn else []))
        await self.pipeline.drain(0.0)
        if self.pipeline.failed.done():
            self.pipeline.failed.exception()  # seen, whatever was the reason
        return None if killed else error

    def die(self, how: str) -> None:
        """kill -9."""
        if not self.dead:
            self.dead = True
            self._history.append(("dies", self.name, how))
        if not self._ended.done():
            self._ended.set_result(None)

    async def leave(self, grace_s: float) -> None:
        """SIGTERM: finish what is with the engine, for a while, then end."""
        self._leaving = True
        await self.pipeline.drain(grace_s)
        if not self._ended.done():
            self._ended.set_result(None)

    # ---- the group ------------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """Everything is revoked."""
        self._fetch.clear()
        if self._turn is not None:
            await _cancel(self._turn)
        for partition in self._world.broker.partitions:
            await self.pipeline.revoked(TOPIC, partition)

    def begin(self, partitions: Sequence[int]) -> None:
        """These are assigned: take them over, and read."""
        if not self.dead:
            self._turn = asyncio.ensure_future(self._take(partitions))
            self._turn.add_done_callback(self._taken)

    def _taken(self, turn: asyncio.Task[None]) -> None:
        if not turn.cancelled() and (error := turn.exception()) and not self._ended.done():
            self._ended.set_exception(error)

    async def _take(self, partitions: Sequence[int]) -> None:
        broker = self._world.broker
        for partition in partitions:
            end = broker.end(partition)
            position = await self.pipeline.assigned(TOPIC, partition, CLUSTER, 0, end)
            self._fetch[partition] = position

    # ---- the consumer ---------------------------------------------------------------------------------------

    async def _reading(self) -> None:
        last = -1
        while True:
            partition = None if self._leaving else self._next_partition(last)
            if partition is None:
                await asyncio.sleep(0.05)
                continue
            last = partition
            offset = self._fetch[partition]
            slip = 1.0 if self._world.weather.calm or self._steady else self._rng.random()
            self._steady = max(0, self._steady - 1)
            if slip < 0.01:  # read again from a little earlier
                offset = max(0, offset - self._rng.randint(1, 5))
            elif slip < 0.02 and offset + 1 < self._world.broker.end(
                partition
            ):  # one record got lost on the way
                offset += 1
            self._fetch[partition] = offset + 1
            await self._deliver(self._world.broker.read(partition, offset))
            await asyncio.sleep(RECORD_S)

    def _next_partition(self, last: int) -> int | None:
        """The next in turn that has something to read."""
        broker = self._world.broker
        if broker.away:
            return None
        ready = [p for p, offset in self._fetch.items() if offset < broker.end(p)]
        return min(ready, key=lambda p: (p <= last, p), default=None)

    async def _deliver(self, record: Record) -> None:
        position = self.pipeline.position(record.topic, record.partition)
        match self._gate.judge(record.topic, record.partition, record.offset, position):
            case Verdict.TAKE:
                await self.pipeline.handle(record)
            case Verdict.SEEK:
                self._steady = STEADY
                if record.partition in self._fetch and position is not None:
                    self._fetch[record.partition] = position
            case Verdict.DROP:
                pass

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for partition in self._fetch:
                position = self.pipeline.position(TOPIC, partition)
                if position is not None:
                    unknown = self._world.broker.away
                    end = position + 1 if unknown else self._world.broker.end(partition)
                    self.pipeline.at_end(TOPIC, partition, end)
            await self.pipeline.tick()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
