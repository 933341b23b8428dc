"""One device of the engine pool: a process that is started, kept busy, replaced when it is lost, and given up at last.

In: batches from the pool (`Work`). Out: responses, or the news that a process took a batch with it. Does not know
windows, deadlines of windows, or what poison is. Inference never runs on the event loop.
Invariants: one batch at a time; a lost process is replaced at once when it was at work, after a growing wait when it
did no work; `max_starts` fruitless starts in a row end it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from model.answers import Response
from workers.engine_process import (
    Ask,
    ChildLost,
    EngineProcess,
    Ready,
    StartFailed,
    describe,
    first_of,
)
from workers.scheduler import SAMPLE_RATE
from workers.spawn import EngineSpec

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """How a process is started and how long it may take.

    A batch may take `batch_deadline_s + deadline_per_audio_s · padded seconds` before its process counts as hung.
    """

    engine: EngineSpec = field(default_factory=EngineSpec)
    batch_deadline_s: float = 30.0
    deadline_per_audio_s: float = 0.5
    max_starts: int = 3
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """State of one device: starting, idle, busy, waiting (before another start) or failed; `detail`: its last loss."""

    device: str
    state: str
    pid: int | None
    rss_bytes: int
    batches: int
    replaced: int
    detail: str


class Work(Protocol[T]):
    """What a device needs of the pool."""

    def take(self) -> list[T]: ...
    async def wait(self) -> None: ...
    def ask(self, entry: T) -> Ask: ...
    def up(self, ready: Ready) -> None: ...
    def answered(
        self, device: str, batch: Sequence[T], responses: Sequence[Response], run_s: float
    ) -> None: ...
    def lost(self, device: str, batch: Sequence[T], reason: str) -> bool: ...
    def gave_up(self) -> None: ...


class Device(Generic[T]):
    """Serves the pool's work with one process at a time until it is cancelled or given up."""

    def __init__(self, name: str, config: DeviceConfig, arena_samples: int, work: Work[T]) -> None:
        self.name = name
        self._config = config
        self._arena_samples = arena_samples
        self._work = work
        self._state = "starting"
        self._process: EngineProcess | None = None
        self._batches = 0
        self._replaced = 0
        self._detail = ""

    def health(self) -> DeviceHealth:
        process = self._process
        return DeviceHealth(
            device=self.name,
            state=self._state,
            pid=process.pid if process else None,
            rss_bytes=process.rss_bytes if process else 0,
            batches=self._batches,
            replaced=self._replaced,
            detail=self._detail,
        )

    async def serve(self) -> None:
        """Keep one process running and busy; give the device up after too many fruitless starts in a row."""
        fruitless = 0
        worthwhile = True
        while worthwhile and fruitless < self._config.max_starts:
            if fruitless:
                await self._back_off(fruitless)
            batches = self._batches
            batch: list[T] = []
            try:
                await self._life(batch)
            except (StartFailed, ChildLost) as error:
                self._detail = str(error)
                self._replaced += 1
                logger.error("engine process lost: %s", error, extra={"device": self.name})
                fruitless = 0 if batch or self._batches > batches else fruitless + 1
                worthwhile = self._work.lost(self.name, batch, self._detail)
        self._state = "failed"
        logger.error("engine device given up: %s", self._detail, extra={"device": self.name})
        self._work.gave_up()

    async def _back_off(self, failures: int) -> None:
        self._state = "waiting"
        await asyncio.sleep(
            min(self._config.backoff_first_s * 2 ** (failures - 1), self._config.backoff_max_s)
        )

    async def _life(self, batch: list[T]) -> None:
        """One process from start to loss; `batch` then holds what it took along. Raises StartFailed, ChildLost."""
        self._state = "starting"
        process = await EngineProcess.start(self._config.engine, {"device": self.name}, self._arena_samples)
        self._process = process
        try:
            _log_ready(process.ready)
            self._work.up(process.ready)
            while True:
                self._state = "idle"
                batch[:] = await self._next_batch(process)
                self._state = "busy"
                await self._run(process, batch)
                batch.clear()
        except ChildLost:
            await process.kill("replaced")
            raise ChildLost(describe(process.lost.result(), process.exit_status)) from None
        except BaseException:
            await process.close()
            raise
        finally:
            self._process = None

    async def _next_batch(self, process: EngineProcess) -> list[T]:
        """The next batch as soon as there is one. Raises ChildLost when the idle process goes."""
        while not process.lost.done():
            if batch := self._work.take():
                return batch
            waiting = asyncio.ensure_future(self._work.wait())
            try:
                await first_of(waiting, process.lost)
            finally:
                waiting.cancel()
        raise ChildLost(process.lost.result())

    async def _run(self, process: EngineProcess, batch: list[T]) -> None:
        asks = [self._work.ask(e) for e in batch]
        padded_s = len(asks) * max(len(a.audio) for a in asks) / SAMPLE_RATE
        patience_s = self._config.batch_deadline_s + self._config.deadline_per_audio_s * padded_s
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        responses = await process.run(asks, deadline_s=patience_s)
        self._batches += 1
        self._work.answered(self.name, batch, responses, loop.time() - started_s)


def _log_ready(ready: Ready) -> None:
    logger.info(
        "engine process ready",
        extra={
            "device": ready.device,
            "model": ready.model_name,
            "model_version": ready.model_version,
            "load_s": round(ready.load_s, 2),
            "warm_up_s": round(ready.warm_up_s, 2),
        },
    )
