"""The windows that wait for an engine process, and what becomes of those that a process took with it.

In: windows with their tasks and a deadline. Out: one `Analysis` each, or `Poison`, or `Unavailable` when no device
works. Does not know Kafka, sessions or rows, and imports no torch.
Invariants: a window is answered exactly once, as soon as its own answer is there; only a window that kills a process
alone, twice, is poison (what else was in flight runs again, each by itself, and is answered); devices that kill window
after window make the pool fail instead of calling everything poison. An answer names the model of the process that gave
it; a swap to another engine loses and repeats nothing, and where the other one does not start nothing has changed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from model.answers import ChoiceAnswer, Question, Response, TextAnswer
from streams.errors import Unavailable
from workers.device import Device, DeviceConfig, DeviceHealth
from workers.engine_process import Ask, Ready, Room, first_of
from workers.places import whereabouts
from workers.scheduler import SAMPLE_RATE, Job, Scheduler, SchedulerConfig, due_s
from workers.spawn import EngineSpec

if TYPE_CHECKING:
    from streams.windows import Window

logger = logging.getLogger(__name__)

LONE_DEATHS_OF_POISON = 2


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the engine says of one window, and who said it."""

    answers: tuple[TextAnswer | ChoiceAnswer, ...]
    model_name: str
    model_version: str


class Poison(Exception):
    """This window cannot be analysed: it kills the engine process by itself, or the model refuses it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Devices (one process each; the name goes to the engine factory as `device`), queue and limits.

    After `max_barren_deaths` deaths in a row without one answered window the pool fails: it is not the windows then.
    """

    device: DeviceConfig = field(default_factory=DeviceConfig)
    devices: tuple[str, ...] = ("auto",)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    backfill_share: float = 0.5
    max_barren_deaths: int = 6
    max_window_s: float = 30.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Windows that a device has answered together, for a span (linked to their `traceparents`) and histograms.

    Per window: `waits_s` from its arrival until a process got it, `runs_s` from then to its answer.
    """

    device: str
    audio_s: float
    waits_s: tuple[float, ...]
    runs_s: tuple[float, ...]
    traceparents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """Snapshot of the pool; `failed` says why when it can no longer answer."""

    waiting: int
    running: int
    failed: str | None
    devices: tuple[DeviceHealth, ...]


class Monitor(Protocol):
    """What the pool tells `workers.telemetry.Telemetry` (whose `batch` is meant for `on_batch`)."""

    def count(self, name: str, amount: int = 1, **attributes: str) -> None: ...
    def duration(self, name: str, seconds: float, **attributes: str) -> None: ...


@dataclass(eq=False, slots=True)
class Entry:
    """A window between its arrival and its answer. `company`: another one was in its process at the same time."""

    window: Window
    tasks: tuple[str, ...]
    job: Job
    arrived_s: float
    answer: asyncio.Future[tuple[Response, Ready]]
    handed_over_s: float = 0.0
    company: bool = False
    lone_deaths: int = 0


class EnginePool:
    """Start it, `analyse` from as many tasks as you like, close it."""

    def __init__(
        self,
        config: PoolConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        monitor: Monitor | None = None,
        on_batch: Callable[[BatchReport], None] | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._monitor = monitor
        self._on_batch = on_batch
        self._scheduler = Scheduler(config.scheduler)
        self._ids = itertools.count()
        self._entries: dict[int, Entry] = {}
        self._device_config = config.device
        self._places = Room(config.scheduler.max_batch_windows, int(config.max_window_s * SAMPLE_RATE))
        self._devices = [Device(name, config.device, self._places, self) for name in config.devices]
        self._servers: dict[Device[Entry], asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(config.scheduler.max_queued)
        self._backfill_room = asyncio.Semaphore(
            max(1, int(config.scheduler.max_queued * config.backfill_share))
        )
        self._first_ready: asyncio.Future[Ready] | None = None
        self._ready: Ready | None = None
        self._barren_deaths = 0
        self._failed: str | None = None

    # ---- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all processes; returns when the first one is warm. Raises Unavailable when none comes up."""
        self._first_ready = asyncio.get_running_loop().create_future()
        for device in self._devices:
            self._serve(device)
        try:
            self._ready = await self._first_ready
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End all processes. Windows that are not answered yet get Unavailable."""
        self._fail("the engine pool is closed")
        await asyncio.gather(*(self._end(device) for device in list(self._servers)))

    async def swap(self, engine: EngineSpec, *, beside: bool, self_test: bool) -> None:
        """Have another engine answer from now on, one device after the other; what is in flight ends where it is.

        With `beside` the new process is warm before the old one gets no more windows; else the old one ends first and
        windows wait meanwhile, which takes no memory for two. Raises Unavailable when the new one does not start, fails
        its self test or takes shorter windows only: every device then runs what it ran before, or is starting it.
        """
        if self._failed is not None:
            raise Unavailable(self._failed)
        old = self._device_config
        new = replace(old, engine=engine, self_test=self_test)
        for index in range(len(self._devices)):
            try:
                ready = await self._change(index, new, beside)
            except Unavailable:
                for changed in range(index):
                    with suppress(Unavailable):
                        await self._change(changed, old, beside)
                raise
        self._device_config, self._ready = new, ready

    @property
    def ready(self) -> Ready:
        """Model, version, device and questions of the running engine. Raises Unavailable before `start`."""
        if self._ready is None:
            raise Unavailable("the engine pool has not been started")
        return self._ready

    @property
    def questions(self) -> tuple[Question, ...]:
        """The closed-set questions the checkpoint can answer."""
        return self.ready.questions

    @property
    def model_name(self) -> str:
        return self.ready.model_name

    @property
    def model_version(self) -> str:
        return self.ready.model_version

    def health(self) -> Health:
        """What runs where, for the doctor, the health endpoint and tests."""
        waiting = len(self._scheduler)
        devices = tuple(d.health() for d in self._devices)
        return Health(waiting, len(self._entries) - waiting, self._failed, devices)

    @property
    def warm(self) -> bool:
        """Whether a process runs that can be asked; else one is being started, within limits of its own."""
        return any(d.health().state in ("idle", "busy") for d in self._devices)

    # ---- one window ------------------------------------------------------------------------------------------------

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        """Answer one window. `deadline_s` is a time on the pool's clock and orders the queue; it drops nothing.

        Waits while the queue is full (backfill may take up only its share of it). Cancelling gives the place back.
        Raises Poison for this window alone, Unavailable when the pool has failed or is closed.
        """
        longest = min(self._config.max_window_s, self.ready.max_samples / SAMPLE_RATE)
        if len(window.audio) > longest * SAMPLE_RATE:
            raise Poison(f"{len(window.audio)} samples are more than {longest:g} s")
        async with AsyncExitStack() as places:
            if not interactive:
                await places.enter_async_context(self._backfill_room)
            await places.enter_async_context(self._room)
            response, by = await self._answer(window, tasks, deadline_s, interactive)
        if response.error is not None:
            self._count("eureka.engine.refused")
            raise Poison(response.error)
        return Analysis(response.answers, by.model_name, by.model_version)

    async def _answer(
        self, window: Window, tasks: tuple[str, ...], deadline_s: float, interactive: bool
    ) -> tuple[Response, Ready]:
        if self._failed is not None:
            raise Unavailable(self._failed)
        now_s = self._clock()
        job_id = next(self._ids)
        speech = window.track == "speech"
        due = due_s(self._config.scheduler, now_s, deadline_s, interactive=interactive, speech=speech)
        job = self._scheduler.push(job_id, due_s=due, background=not (interactive and speech))
        entry = Entry(window, tasks, job, now_s, asyncio.get_running_loop().create_future())
        self._entries[job_id] = entry
        self._wake()
        try:
            return await entry.answer
        finally:
            if self._scheduler.cancel(job_id):
                self._wake()  # others may have waited behind it
            self._entries.pop(job_id, None)
            self._time("eureka.engine.window", self._clock() - now_s)

    # ---- what a device asks and tells (workers.device.Work) ----------------------------------------------------------

    def take(self, most: int, held: Sequence[Entry]) -> list[Entry]:
        """What a device with so many free lanes, that holds `held`, runs next; empty when nothing may."""
        while jobs := self._scheduler.next_batch(most, [e.job for e in held]):
            wanted = [e for job in jobs if not (e := self._entries[job.job_id]).answer.done()]
            for entry in wanted:
                entry.handed_over_s = self._clock()
            if len(held) + len(wanted) > 1:
                for entry in (*held, *wanted):
                    entry.company = True
            if wanted:
                return wanted
        return []

    def ask(self, entry: Entry) -> Ask:
        return Ask(str(entry.job.job_id), entry.window.audio, entry.tasks, entry.job.due_s)

    def up(self, ready: Ready) -> None:
        """A process is warm."""
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_result(ready)

    def answered(self, device: str, by: Ready, answers: Sequence[tuple[Entry, Response]]) -> None:
        """Some windows are answered; others may still be in flight beside them."""
        self._barren_deaths = 0
        for entry, response in answers:
            if not entry.answer.done():
                entry.answer.set_result((response, by))
        if self._on_batch is None:
            return
        entries = [entry for entry, _ in answers]
        now_s = self._clock()
        report = BatchReport(
            device=device,
            audio_s=sum(len(e.window.audio) for e in entries) / SAMPLE_RATE,
            waits_s=tuple(e.handed_over_s - e.arrived_s for e in entries),
            runs_s=tuple(now_s - e.handed_over_s for e in entries),
            traceparents=tuple(t for e in entries for t in e.window.traceparents),
        )
        self._on_batch(report)

    def lost(self, device: str, suspects: Sequence[Entry], reason: str) -> bool:
        """A process is gone with these: each runs again by itself; a second lone death is poison.

        Returns whether another process is worth starting.
        """
        self._count("eureka.engine.replaced", device=device)
        if not suspects:
            return True
        self._barren_deaths += 1
        hopeless = self._barren_deaths >= self._config.max_barren_deaths
        for entry in suspects:
            if entry.answer.done():
                continue
            lone = not entry.company
            entry.lone_deaths += lone
            if entry.lone_deaths >= LONE_DEATHS_OF_POISON and not hopeless:
                self._count("eureka.engine.poison")
                entry.answer.set_exception(
                    Poison(f"the engine process {reason} with this window alone, twice")
                )
                continue
            # One that has killed alone waits behind the others that were in flight with it the first time.
            due = self._clock() + self._config.scheduler.ageing_s if lone else entry.job.due_s
            entry.job = self._scheduler.push_alone(entry.job, due_s=due)
            entry.company = False
        self._wake()
        return not hopeless

    # ---- devices come and go ---------------------------------------------------------------------------------------

    async def _change(self, index: int, config: DeviceConfig, beside: bool) -> Ready:
        """Put a new device in the place of one. Raises Unavailable; the old one, or another like it, is then there."""
        old = self._devices[index]
        if not beside:
            await self._end(old)
        new = Device(old.name, config, self._places, self, admitted=False)
        try:
            ready = await self._warm(new)
        except BaseException:
            await self._end(new)
            if not beside and self._failed is None:
                self._devices[index] = Device(old.name, self._device_config, self._places, self)
                self._serve(self._devices[index])
            raise
        self._devices[index] = new
        new.admit()
        if beside:
            await self._end(old)
        return ready

    async def _warm(self, device: Device[Entry]) -> Ready:
        server, warmed = self._serve(device), asyncio.create_task(device.warmed())
        try:
            await first_of(server, warmed)
            if not warmed.done():
                raise Unavailable(f"the new engine did not start: {device.health().detail}")
            ready = warmed.result()
        finally:
            warmed.cancel()
        longest = min(self._places.place_samples, self.ready.max_samples)
        if ready.max_samples < longest:
            raise Unavailable(f"the new engine takes {ready.max_samples} samples, not {longest}")
        return ready

    def _serve(self, device: Device[Entry]) -> asyncio.Task[None]:
        server = asyncio.create_task(device.serve(), name=f"engine {device.name}")
        server.add_done_callback(self._ended)
        self._servers[device] = server
        return server

    async def _end(self, device: Device[Entry]) -> None:
        """Let what is in flight end there, unless the pool is closed; then end the process."""
        server = self._servers.get(device)
        if server is None:  # ended by `close`
            return
        try:
            if self._failed is None:
                await device.retire()
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)
            self._servers.pop(device, None)

    def _ended(self, server: asyncio.Task[None]) -> None:
        """Whoever waits must not wait for a device that fell over a fault of our own."""
        if not server.cancelled() and (error := server.exception()) is not None:
            logger.error("a device of the engine pool failed: %s", whereabouts(error))
            self._fail(f"{server.get_name()} failed: {type(error).__name__}")

    def gave_up(self) -> None:
        """A device will not be started again; without any the pool has failed."""
        if all(d.health().state == "failed" for d in self._devices):
            details = "; ".join(f"{d.name}: {d.health().detail}" for d in self._devices)
            self._fail(f"no engine process could be kept running: {details}")

    def _fail(self, reason: str) -> None:
        if self._failed is not None:
            return
        self._failed = reason
        for entry in self._entries.values():
            if not entry.answer.done():
                entry.answer.set_exception(Unavailable(reason))
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_exception(Unavailable(reason))

    def _wake(self) -> None:
        for device in self._devices:
            device.wake()

    def _count(self, name: str, amount: int = 1, **attributes: str) -> None:
        if self._monitor is not None:
            self._monitor.count(name, amount, **attributes)

    def _time(self, name: str, seconds: float, **attributes: str) -> None:
        if self._monitor is not None:
            self._monitor.duration(name, seconds, **attributes)
