"""The simulated world as a whole: producers, a broker with partitions, workers that come and go, and a script of
misfortune.

In: a seed, and for tests of the checker a broken part. Out: an `Outcome`: what was written, what the database and the
topics hold in the end, and all that happened. Invariants: the same seed gives the same history; after `heal_s` nothing
goes wrong any more and workers run until all is settled, or the run counts as stuck.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from streams.errors import Fenced
from tests.sim.database import Database
from tests.sim.limits import TOPIC, limits_of
from tests.sim.loop import run
from tests.sim.ports import Delivery
from tests.sim.producers import Input, write_input
from tests.sim.watch import Place, Stops, Trail, watched
from tests.sim.weather import Weather
from tests.sim.worker import Broker, Surroundings, Worker
from workers.pipeline import Pipeline, PipelineLimits

STUCK_S = 240.0


@dataclass(frozen=True)
class Build:
    """What runs inside: the production pipeline over a database that keeps its rules, or what a test has broken."""

    pipeline: type[Pipeline] = Pipeline
    database: type[Database] = Database


@dataclass
class Outcome:
    """All that a checker needs of one run."""

    seed: int
    written: Input
    deadly: bool
    database: Database
    topics: list[Delivery]
    history: list[tuple[Any, ...]]
    stuck: bool
    defects: list[str]  # what workers died of, where it was no kill and no fence
    limits: PipelineLimits
    stops: dict[Place, Stops]  # where each track ended a run or cut one

    @property
    def fingerprint(self) -> str:
        """Equal for equal runs."""
        return hashlib.sha256(repr((self.history, self.topics)).encode()).hexdigest()


def simulate(seed: int, build: Build | None = None) -> Outcome:
    """One run of one seed."""
    outcome: Outcome = run(_Cluster.play(seed, build or Build()))
    return outcome


class _Cluster:
    def __init__(self, seed: int, build: Build) -> None:
        now_s = asyncio.get_running_loop().time
        self._now_s = now_s
        self._rng = random.Random(f"cluster {seed}")
        self._seed = seed
        self.written = write_input(seed)
        self.weather = Weather(random.Random(f"weather {seed}"), now_s)
        self.history: list[tuple[Any, ...]] = []
        self.database = build.database(now_s, self.history)
        self.database.streams.update(self.written.bound)
        self.topics: list[Delivery] = []
        logs = [[(w.arrival_s, w.record) for w in log] for log in self.written.logs]
        self.broker = Broker(logs, now_s, self.weather)
        self.deadly = self._rng.random() < 0.4
        self.limits, self.trail = limits_of(seed), Trail()
        pipeline = watched(build.pipeline, self.limits, self.trail, self.history)
        self.world = Surroundings(
            self.broker, self.database, self.topics, self.weather, self.deadly, pipeline, self.limits
        )
        self.heal_s = self.written.end_s + self._rng.uniform(0, 10)
        self.pace_s = self._rng.choice([1.0, 2.0, 4.0, 1000.0])  # between two strokes of fate
        self.workers: list[Worker] = []  # that live
        self.members: list[Worker] = []  # of the group, as the broker knows it
        self.defects: list[str] = []
        self.wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def play(cls, seed: int, build: Build) -> Outcome:
        cluster = cls(seed, build)
        slots = [cluster._spawn(cluster._slot(n)) for n in range(cluster._rng.choice([2, 2, 3]))]
        background = [cluster._spawn(cluster._rebalancing()), cluster._spawn(cluster._misfortune())]
        stuck = not await cluster._settled()
        for task in (*background, *slots):
            task.cancel()
        await asyncio.gather(*background, *slots, return_exceptions=True)
        for task in (*background, *slots):
            if not task.cancelled() and (error := task.exception()):
                raise error  # the simulator's own defect
        for worker in cluster.workers:
            await worker.pipeline.drain(0.0)
        return Outcome(
            seed,
            cluster.written,
            cluster.deadly,
            cluster.database,
            cluster.topics,
            cluster.history,
            stuck,
            cluster.defects,
            cluster.limits,
            cluster.trail.stops(cluster.history),
        )

    async def _settled(self) -> bool:
        """Wait until everything is read, committed and sent; False where that does not come about."""
        await asyncio.sleep(self.heal_s)
        self.weather.calm = True
        self.history.append(("calm",))
        deadline_s = self._now_s() + STUCK_S
        ends = {(TOPIC, p): len(log) for p, log in enumerate(self.written.logs) if log}
        while self._now_s() < deadline_s:
            stored = {place: offset for place, offset in self.database.offsets.items() if offset}
            if stored == ends and not self.database.unpublished:
                return True
            await asyncio.sleep(0.5)
        return False

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        return task

    # ---- workers and their group ----------------------------------------------------------------------------

    async def _slot(self, number: int) -> None:
        """One place of the supervisor: start a worker, and another one when it has died."""
        life = 0
        while True:
            worker = Worker(f"{number}.{life}", random.Random(f"{self._seed} {number} {life}"), self.world)
            self.workers.append(worker)
            self.members.append(worker)
            self.history.append(("starts", worker.name))
            self.wanted.set()
            error = await worker.live()
            self.workers.remove(worker)
            self.history.append(("ended", worker.name, type(error).__name__))
            if error is not None and not isinstance(error, Fenced):
                self.defects.append(f"worker {worker.name}: {type(error).__name__}: {error}")
            # the broker hears of it when the session times out
            self._spawn(self._forget(worker, self._rng.uniform(0.1, 2.0)))
            await asyncio.sleep(self._rng.uniform(0.1, 2.0))
            life += 1

    async def _forget(self, worker: Worker, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if worker in self.members:
            self.members.remove(worker)
            self.wanted.set()

    async def _rebalancing(self) -> None:
        """The group's coordinator: all let go, then each is given its share. The dead keep theirs until forgotten."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            members = list(self.members)
            await asyncio.gather(*(worker.let_go() for worker in members if not worker.dead))
            if not members:
                continue
            turn = self._rng.randrange(len(members))
            self.history.append(("rebalance", tuple(worker.name for worker in members), turn))
            for number, worker in enumerate(members):
                worker.begin([p for p in self.broker.partitions if (p + turn) % len(members) == number])

    async def _zombie(self, worker: Worker, for_s: float) -> None:
        """The group gives up a worker that does not know it: it works on until it is fenced, or hears of it."""
        if worker not in self.members:
            return
        self.members.remove(worker)
        self.history.append(("zombie", worker.name))
        self.wanted.set()
        await asyncio.sleep(for_s)
        if not worker.dead:
            await worker.let_go()
        if not worker.dead:
            self.members.append(worker)
            self.wanted.set()

    # ---- misfortune -----------------------------------------------------------------------------------------

    async def _misfortune(self) -> None:
        rng = self._rng
        while True:
            await asyncio.sleep(rng.expovariate(1 / self.pace_s))
            kind = rng.choice(["kill", "zombie", "rebalance", "leave", "engine", "store", "broker"])
            for_s, chosen = rng.uniform(0.5, 8.0), rng.random()
            if self._now_s() + for_s > self.heal_s:
                continue
            self.history.append((kind, for_s))
            if kind in ("store", "broker"):
                self.weather.away_until_s[kind] = self._now_s() + for_s
            elif kind == "rebalance":
                self.wanted.set()
            elif self.workers:
                worker = self.workers[int(chosen * len(self.workers))]
                if kind == "kill":
                    worker.die("killed")
                elif kind == "zombie":
                    self._spawn(self._zombie(worker, for_s))
                elif kind == "leave":
                    self._spawn(worker.leave(for_s / 4))
                else:
                    worker.engine.lose()
