"""The Faust edge: one agent that hands records, in place, to the pipeline, and the life of that edge until it
ends.

In: the chunk topic's records as raw bytes. Out: calls of the pipeline (`handle`, `tick`, `at_end`, `drain`).
Does not know what a record means. Faust's web server, tables, leader, producer and offset bookkeeping are
off: Postgres holds the progress. Invariants: `handle` sees each partition's records in offset order from the
position it gave, nothing from before a seek; an unexpected exception anywhere ends the process with a failure
(Faust by itself would swallow it and ack the record); so does a standstill (`workers.watchdog`).
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import faust
from faust.app.base import BootStrategy as FaustBoot
from faust.types import TP
from yarl import URL

from streams.errors import Unavailable
from streams.messages import Record
from workers.broker_trouble import Denied
from workers.broker_watch import BrokerWatch
from workers.gate import Gate, Verdict
from workers.settings import Settings
from workers.source import Consumer, Taker, Transport, faust_log
from workers.telemetry import Telemetry
from workers.watchdog import Pulse, Stalled, Watchdog

log = logging.getLogger(__name__)


class Sink(Taker, Protocol):
    """The pipeline as seen by the edge; `workers.pipeline.Pipeline` in every process but the edge's own tests."""

    @property
    def failed(self) -> "asyncio.Future[None]": ...
    async def handle(self, record: Record) -> None: ...
    def at_end(self, topic: str, partition: int, highwater: int) -> None: ...
    async def tick(self) -> None: ...
    async def drain(self, grace_s: float) -> bool: ...
    def pulse(self) -> Pulse: ...


class Boot(FaustBoot):
    """Start the consumer side only: results leave through `workers.publisher`."""

    enable_kafka_producer = False
    enable_web = False


class App(faust.App):
    """A Faust app that reads through our transport and keeps nothing on disk."""

    logger = faust_log
    BootStrategy = Boot
    settings: Settings
    taker: Taker

    def __init__(self, settings: Settings, taker: Taker, fail: Callable[[BaseException], None]) -> None:
        self.settings = settings
        self.taker = taker
        self.fail = fail
        super().__init__(
            "eureka-worker",
            broker=[URL("kafka://%s" % address) for address in settings.broker_list],
            store="memory://",
            cache="memory://",
            web_enabled=False,
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            reply_create_topic=False,
            stream_wait_empty=False,
            stream_buffer_maxsize=settings.fetch_buffer_records,
            stream_recovery_delay=0.0,
            broker_request_timeout=settings.request_timeout_s,
            broker_session_timeout=settings.session_timeout_s,
            broker_heartbeat_interval=settings.heartbeat_interval_s,
        )

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Faust would make a data folder in the working directory; nothing of ours goes there."""


@dataclass(frozen=True, slots=True)
class EdgeState:
    """How the edge stands with the broker, for the health endpoint. `ticked_s`: since the last tick."""

    rebalancing: bool
    untaken: bool
    taken: tuple[str, ...]
    broker_away: bool
    broker_denies: bool
    draining: bool
    ticked_s: float
    stalled_s: float


class Edge:
    """Runs the Faust app around a pipeline until a signal, a failure or a standstill ends it."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        telemetry: Telemetry | None = None,
        *,
        excused: Callable[[], bool] = lambda: False,
        on_failure: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        """`excused` says whether all waits for something that has limits of its own, as a start of the engine does;
        `on_failure` is called at once when the edge has failed: it may take a while to close.
        """
        self._settings = settings
        self._excused = excused
        self._on_failure = on_failure
        self._dog = Watchdog(settings.stall_after_s)
        self._broker = BrokerWatch(settings, lambda: self._consumer)
        self._started = False
        self._ticked_s = 0.0
        self._sink = sink
        self._telemetry = telemetry or Telemetry.off()
        self._polled: Counter[TP] = Counter()
        self._behind: dict[TP, tuple[int, int]] = {}  # turn and furthest offset of records that are read over
        self._silent: set[TP] = set()  # partitions whose end the broker does not tell any more
        self._gate = Gate()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self.app = App(settings, sink, self.fail)
        topic = self.app.topic(
            settings.topics.chunks, key_serializer="raw", value_serializer="raw", acks=False
        )
        self.app.agent(topic, name="chunks")(self._agent)

    def fail(self, error: BaseException) -> None:
        """End the process with a failure; the first one is the reason."""
        if not self._failure.done():
            self._failure.set_exception(error)

    def stop(self) -> None:
        """Ask for a clean end: drain, then leave the group."""
        self._stopping.set()

    def state(self) -> EdgeState:
        """A snapshot. Before the consumer has started, the group is as good as rebalancing."""
        consumer = self._consumer if self._started else None
        return EdgeState(
            rebalancing=consumer is None or consumer.turn is None,
            untaken=consumer is not None and consumer.untaken,
            taken=tuple("%s-%d" % tp for tp in consumer.taken) if consumer is not None else (),
            broker_away=self._broker.trouble is not None,
            broker_denies=isinstance(self._broker.trouble, Denied),
            draining=self._stopping.is_set(),
            ticked_s=time.monotonic() - self._ticked_s if self._started else 0.0,
            stalled_s=self._dog.stalled_s,
        )

    async def run(self, on_ready: Callable[[list[TP]], None]) -> bool:
        """Serve until `stop`; `on_ready` is called whenever the set of partitions taken over has changed.

        Returns whether all that was with the engine is committed. Raises whatever else ended the edge.
        """
        self.app.finalize()
        tasks: list[asyncio.Task[Any]] = []
        try:
            await self._start_app()
            timers = (
                self._ticking(on_ready),
                self._storing_positions(),
                self._watching(),
                self._guarding(),
                self._broker.watch(),
            )
            tasks += [asyncio.create_task(timer) for timer in timers]
            stopping = asyncio.create_task(self._stopping.wait())
            tasks.append(stopping)
            await asyncio.wait(
                [*tasks, self._failure, self._sink.failed], return_when=asyncio.FIRST_COMPLETED
            )
            for ended in (self._failure, self._sink.failed, *tasks):
                if ended.done():
                    ended.result()
            return await self._drain()
        except Exception as error:
            self._on_failure(error)
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stopping.set()
            await self._stop_app()
            if self._failure.done():
                self._failure.exception()  # seen, even where another failure was the reason

    async def _start_app(self) -> None:
        limit_s = self._settings.stall_after_s
        try:
            async with asyncio.timeout(limit_s):
                await self.app.start()
        except TimeoutError:
            raise Stalled("the consumer did not start within %g s" % limit_s) from None
        self._started, self._ticked_s = True, time.monotonic()

    async def _drain(self) -> bool:
        grace_s = self._settings.drain_grace_s
        log.info("draining", extra={"grace_s": grace_s})
        draining = asyncio.create_task(self._sink.drain(grace_s))
        # ticks go on: a reorder wait may have to run out for a session to be complete
        failures: list[asyncio.Future[Any]] = [self._failure, self._sink.failed]
        await asyncio.wait([draining, *failures], return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            draining.cancel()
        for ended in failures:
            if ended.done():
                ended.result()
        return draining.result()

    async def _stop_app(self) -> None:
        stopping = asyncio.create_task(self.app.stop())
        _, late = await asyncio.wait([stopping], timeout=self._settings.stop_limit_s / 2)
        if late:
            log.warning("the consumer did not stop in time; the broker will notice by its session timeout")
            stopping.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await stopping

    async def _agent(self, stream: "faust.StreamT[Any]") -> None:
        try:
            async for event in stream.events():
                if not self._stopping.is_set():  # what is not taken now is read again by the next owner
                    await self._deliver(event.message)
        except Exception as error:  # noqa: BLE001 Faust would swallow it and go on behind the record
            self.fail(error)
            await asyncio.Event().wait()  # until the process ends: nothing more may be taken

    async def _deliver(self, message: Any) -> None:
        tp = TP(message.topic, message.partition)
        self._polled[tp] += 1
        position = self._sink.position(message.topic, message.partition)
        match self._gate.judge(message.topic, message.partition, message.offset, position):
            case Verdict.TAKE:
                self._behind.pop(tp, None)
                if message.offset != position:
                    log.warning(
                        "hole in the log",
                        extra={"partition": message.partition, "from": position, "to": message.offset},
                    )
                record = _record(message)
                with self._telemetry.processing(record):
                    await self._sink.handle(record)
            case Verdict.SEEK:
                assert position is not None
                log.info("reading again", extra={"partition": message.partition, "offset": position})
                await self._consumer.seek_back(tp, position)
            case Verdict.DROP if position is not None:
                reached = (self._consumer.turns, message.offset)
                self._behind[tp] = max(reached, self._behind.get(tp, reached))

    @property
    def _consumer(self) -> Consumer:
        return cast(Consumer, self.app.consumer)

    async def _ticking(self, on_ready: Callable[[list[TP]], None]) -> None:
        known: list[TP] | None = None
        waiting_since_s: float | None = None
        limit_s = self._settings.assign_timeout_s + self._settings.rebalance_timeout_s
        while True:
            await asyncio.sleep(self._settings.tick_interval_s)
            now_s = time.monotonic()
            waiting_since_s = (waiting_since_s or now_s) if self._consumer.untaken else None
            if waiting_since_s is not None and now_s - waiting_since_s > limit_s:
                raise Unavailable("partitions were assigned but not taken over within %g s" % limit_s)
            taken = self._consumer.taken
            if taken != known and self._consumer.turn is not None:
                known = taken
                on_ready(taken)
            for tp in taken:
                self._report_end(tp)
            for tp, records in self._polled.items():
                self._telemetry.polled(tp.topic, tp.partition, records)
            self._polled.clear()
            await self._sink.tick()
            self._ticked_s = time.monotonic()

    def _report_end(self, tp: TP) -> None:
        position = self._sink.position(*tp)
        if position is None:
            return
        highwater = self._consumer.fetched_highwater(tp, self._settings.highwater_max_age_s)
        if (highwater is None) != (tp in self._silent):
            log.log(
                logging.INFO if highwater is not None else logging.WARNING,
                "partition is fetched"
                if highwater is not None
                else "partition is not fetched: busy, or no broker",
                extra={"partition": tp.partition, "position": position},
            )
            self._silent ^= {tp}
        if highwater is None:
            asked = self._broker.ends.get(tp, 0)
            if asked > position:  # busy: the lag shows, although nothing is fetched
                self._telemetry.lag(tp.topic, tp.partition, asked - position)
            highwater = max(asked, position + 1)  # not known to be at the end: nothing may count as idle
        elif highwater < position:
            raise Unavailable(
                "%s-%d ends at %d but was read up to %d: the broker lost records or was replaced"
                % (tp.topic, tp.partition, highwater, position)
            )
        else:
            self._telemetry.lag(tp.topic, tp.partition, highwater - position)
        self._sink.at_end(*tp, highwater)

    async def _guarding(self) -> None:
        """End when work waits and nothing moves."""
        while True:
            await asyncio.sleep(self._settings.tick_interval_s)
            self._dog.look(
                asyncio.get_running_loop().time(), Pulse(None) if self._excused() else self._pulse()
            )

    def _pulse(self) -> Pulse:
        consumer, sink = self._consumer, self._sink.pulse()
        work = list(sink.work)
        if consumer.turn is None:
            work.append("the group rebalances")
        elif consumer.untaken:
            work.append("a partition is not taken over")
        for tp in consumer.taken:
            if waits := self._waits_in(tp):
                work.append(waits)
        # to read on towards a position far ahead, after a reset, is to get on; to read the same again is not
        behind = tuple(sorted(self._behind.items()))
        return Pulse((sink.moves, consumer.turn, self._broker.refusals, behind), tuple(work))

    def _waits_in(self, tp: TP) -> str:
        position = self._sink.position(*tp)
        if position is None:
            return ""
        end = self._consumer.fetched_highwater(tp, self._settings.highwater_max_age_s)
        if end is None:
            end = self._broker.ends.get(tp)
        if end is None:
            return "%s-%d: not fetched, its end is not known" % tp
        return "%s-%d: %d records to read" % (*tp, end - position) if end > position else ""

    async def _storing_positions(self) -> None:
        while True:
            await asyncio.sleep(self._settings.commit_interval_s)
            await self._consumer.store_positions()

    async def _watching(self) -> None:
        """End when a part of Faust has crashed."""
        await self.app._crashed.wait()
        raise self.app.crash_reason or RuntimeError("Faust crashed without a reason")


def _record(message: Any) -> Record:
    headers = message.headers or ()
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=tuple((name, bytes(value)) for name, value in headers if value is not None),
        timestamp_ms=round((message.timestamp or 0.0) * 1000),
    )
