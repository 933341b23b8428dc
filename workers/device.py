"""One device of the engine pool: a process that is started, kept filled, replaced when lost, and given up at last.

In: windows from the pool (`Work`). Out: responses, or the news that a process took windows with it. Does not know
deadlines of windows, who goes first, or what poison is. Inference never runs on the event loop.
Invariants: while work waits that may run here, no lane is empty; never more windows in flight than lanes; all windows
in flight when a process is lost are told as lost; a lost process is replaced at once when it was at work, after a
growing wait when it did no work; `max_starts` fruitless starts in a row end it. A device that is not admitted yet, or
is retired, takes nothing; a retired one replaces nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from model.answers import Response
from workers.engine_process import Ask, ChildLost, EngineProcess, Ready, Room, StartFailed, describe
from workers.self_test import self_test
from workers.spawn import EngineSpec
from workers.vigil import Patience

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """How a process is started and how long it may take.

    With work in flight it counts as hung when nothing was answered for `batch_deadline_s + deadline_per_audio_s ·
    seconds in flight`, or the window that is due first was not for four times that (`workers.vigil`).
    With `self_test` a process that is warm must pass one (`workers.self_test`) before it counts as started.
    """

    engine: EngineSpec = field(default_factory=EngineSpec)
    batch_deadline_s: float = 30.0
    deadline_per_audio_s: float = 0.5
    max_starts: int = 3
    self_test: bool = False
    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0

    @property
    def patience(self) -> Patience:
        """How a process is judged, from its start on."""
        return Patience(
            silence_limit_s=self.engine.silence_limit_s,
            start_deadline_s=self.engine.start_deadline_s,
            deadline_s=self.batch_deadline_s,
            deadline_per_audio_s=self.deadline_per_audio_s,
            beat_s=self.engine.heartbeat_s / 2,
            late_s=self.engine.heartbeat_s,
        )


@dataclass(frozen=True, slots=True)
class DeviceHealth:
    """State of one device: starting, idle, busy, waiting (before another start), failed or ended; `detail`: last loss.

    `in_flight`: windows on it now; `answered`: windows it has answered so far.
    """

    device: str
    state: str
    pid: int | None
    rss_bytes: int
    in_flight: int
    answered: int
    replaced: int
    detail: str


class Work(Protocol[T]):
    """What a device needs of the pool."""

    def take(self, most: int, held: Sequence[T]) -> list[T]: ...
    def ask(self, entry: T) -> Ask: ...
    def up(self, ready: Ready) -> None: ...
    def answered(self, device: str, by: Ready, answers: Sequence[tuple[T, Response]]) -> None: ...
    def lost(self, device: str, suspects: Sequence[T], reason: str) -> bool: ...
    def gave_up(self) -> None: ...


class Device(Generic[T]):
    """Serves the pool's work with one process at a time until it is cancelled or given up."""

    def __init__(
        self, name: str, config: DeviceConfig, room: Room, work: Work[T], *, admitted: bool = True
    ) -> None:
        self.name = name
        self._config = config
        self._room = room
        self._work = work
        self._state = "starting"
        self._process: EngineProcess | None = None
        self._in_flight: dict[str, T] = {}
        self._empty = asyncio.Event()  # nothing is in flight
        self._empty.set()
        self._warmed = asyncio.Event()  # a process has been ready
        self._ready: Ready | None = None
        self._taking = admitted
        self._retired = False
        self._news = asyncio.Event()  # work may wait, answers have come, or the process is lost
        self._answered = 0
        self._replaced = 0
        self._detail = ""

    def wake(self) -> None:
        """There may be something to take."""
        self._news.set()

    async def warmed(self) -> Ready:
        """Wait, without end, until a process is warm; what it says of itself."""
        await self._warmed.wait()
        assert self._ready is not None
        return self._ready

    def admit(self) -> None:
        """From now on it may take windows."""
        self._taking = True
        self.wake()

    async def retire(self) -> None:
        """Take nothing more; returns once nothing is in flight (answered, or told as lost). Then cancel `serve`."""
        self._taking, self._retired = False, True
        await self._empty.wait()

    def health(self) -> DeviceHealth:
        process = self._process
        return DeviceHealth(
            device=self.name,
            state=self._state,
            pid=process.pid if process else None,
            rss_bytes=process.rss_bytes if process else 0,
            in_flight=len(self._in_flight),
            answered=self._answered,
            replaced=self._replaced,
            detail=self._detail,
        )

    async def serve(self) -> None:
        """Keep one process running and busy; give the device up after too many fruitless starts in a row."""
        try:
            await self._keep_running()
        finally:
            self._empty.set()  # nobody waits for a device that has ended
            if self._state != "failed":
                self._state = "ended"

    async def _keep_running(self) -> None:
        fruitless = 0
        worthwhile = True
        while worthwhile and fruitless < self._config.max_starts and not self._retired:
            if fruitless:
                await self._back_off(fruitless)
            answered = self._answered
            try:
                await self._life()
            except (StartFailed, ChildLost) as error:
                suspects = list(self._in_flight.values())
                self._in_flight.clear()
                self._detail = str(error)
                self._replaced += 1
                logger.error("engine process lost: %s", error, extra={"device": self.name})
                fruitless = 0 if suspects or self._answered > answered else fruitless + 1
                worthwhile = self._work.lost(self.name, suspects, self._detail)
                self._empty.set()
        if self._retired:
            return
        self._state = "failed"
        logger.error("engine device given up: %s", self._detail, extra={"device": self.name})
        self._work.gave_up()

    async def _back_off(self, failures: int) -> None:
        self._state = "waiting"
        await asyncio.sleep(
            min(self._config.backoff_first_s * 2 ** (failures - 1), self._config.backoff_max_s)
        )

    async def _life(self) -> None:
        """One process from start to loss; `_in_flight` is then what it took along. Raises StartFailed, ChildLost."""
        self._state = "starting"
        config = self._config
        process = await EngineProcess.start(
            config.engine, {"device": self.name}, self._room, config.patience, self._news.set
        )
        self._process = process
        try:
            if config.self_test:
                await self_test(process, self._news)
            _log_ready(process.ready)
            self._ready = process.ready
            self._warmed.set()
            self._work.up(process.ready)
            await self._keep_filled(process)
        finally:
            await process.close()
            self._process = None
        raise ChildLost(describe(process.lost.result(), process.exit_status))

    async def _keep_filled(self, process: EngineProcess) -> None:
        """Pass on answers as they come and windows as lanes get free, until the process is lost."""
        lanes = max(1, min(process.ready.capacity, self._room.places))
        while not process.lost.done():
            self._news.clear()
            self._pass_on(process)
            while self._taking and (entries := self._take(lanes)):
                asks = [self._work.ask(entry) for entry in entries]
                self._in_flight |= {ask.request_id: entry for ask, entry in zip(asks, entries, strict=True)}
                self._empty.clear()
                process.submit(asks)
            self._state = "busy" if self._in_flight else "idle"
            await self._news.wait()
        self._pass_on(process)

    def _take(self, lanes: int) -> list[T]:
        return self._work.take(lanes - len(self._in_flight), list(self._in_flight.values()))

    def _pass_on(self, process: EngineProcess) -> None:
        if responses := process.collect():
            self._answered += len(responses)
            answers = [(self._in_flight.pop(r.request_id), r) for r in responses]
            self._work.answered(self.name, process.ready, answers)
            if not self._in_flight:
                self._empty.set()


def _log_ready(ready: Ready) -> None:
    logger.info(
        "engine process ready",
        extra={
            "device": ready.device,
            "capacity": ready.capacity,
            "model": ready.model_name,
            "model_version": ready.model_version,
            "load_s": round(ready.load_s, 2),
            "warm_up_s": round(ready.warm_up_s, 2),
        },
    )
