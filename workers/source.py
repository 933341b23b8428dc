"""Faust's Kafka consumer, with Postgres in place of Kafka's committed offsets.

In: rebalances and records of the group. Out: `assigned`, `revoked` and, through `workers.gate`, each record
in place. Does not know sessions, audio or SQL. Faust 0.15 restarts reading at each rebalance by
`seek_to_committed`, and calls it at other times too; a record fetched before a seek may still arrive after
it, and Faust may drop one (it compares generations and its own read offset). Hence two rules:
- a partition is taken over once per assignment (a "turn"); any further call only seeks to where the pipeline
  stands;
- whatever reaches the agent is compared with the pipeline's position: behind it → dropped, ahead of it → read
  again from the position; only when the same jump stays is it a hole in the log.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.errors import Unavailable
from workers import batches
from workers.settings import Settings, kafka_security

log = logging.getLogger(__name__)
faust_log = logging.getLogger("faust.edge")  # where the life of Faust's services is told


class Taker(Protocol):
    """Who takes partitions over: the pipeline, as far as the source is concerned."""

    async def assigned(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> int: ...
    async def revoked(self, topic: str, partition: int) -> None: ...
    def position(self, topic: str, partition: int) -> int | None: ...


class EdgeApp(Protocol):
    """What this module needs of the Faust app (`workers.app.App`)."""

    settings: Settings
    taker: Taker

    def fail(self, error: BaseException) -> None: ...


@dataclass(frozen=True, slots=True)
class Reached:
    """`fetched`: every offset below has been looked at; `handed_out`: the one after the last record among them."""

    fetched: int
    handed_out: int


class _Unfiltered(dict[TP, int | None]):
    """Faust's read offsets, always unknown: with them it drops records behind a seek; the gate does that, provably."""

    def __getitem__(self, key: TP) -> int | None:
        return None


class Listener(driver.ConsumerRebalanceListener):
    """Marks the begin and end of a turn in the consumer's thread, before anything else happens."""

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> Any:
        cast(Consumer, self._thread.consumer).turn = None
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        consumer = cast(Consumer, self._thread.consumer)
        consumer.turns += 1
        consumer.turn = consumer.turns
        cast(Thread, self._thread).forget_reached()
        await super().on_partitions_assigned(assigned)


class Thread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread around a consumer configured by our settings."""

    logger = faust_log

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._reached: Mapping[TP, Reached] = {}  # replaced as a whole: another thread reads it
        super().__init__(*args, **kwargs)

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> aiokafka.AIOKafkaConsumer:
        settings = cast(EdgeApp, self.app).settings
        largest_record = settings.max_chunk_bytes + 65536  # headers and framing on top of the audio
        batches.install()
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            bootstrap_servers=settings.broker_list,
            client_id="eureka-worker",
            group_id=settings.group_id,
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=settings.fetch_buffer_records,
            max_partition_fetch_bytes=largest_record,
            fetch_max_bytes=max(largest_record, 8 << 20),
            fetch_max_wait_ms=200,
            request_timeout_ms=int(settings.request_timeout_s * 1000),
            session_timeout_ms=int(settings.session_timeout_s * 1000),
            rebalance_timeout_ms=int(settings.rebalance_timeout_s * 1000),
            heartbeat_interval_ms=int(settings.heartbeat_interval_s * 1000),
            **kafka_security(settings),
        )

    async def cluster_id(self) -> str:
        """The cluster's id as the broker gives it now. Raises KafkaError."""
        consumer = self._ensure_consumer()
        return str(await self.call_thread(_cluster_id, consumer))

    async def store_positions(self, positions: Mapping[TP, int]) -> None:
        """Tell Kafka how far we have read, for lag monitors only. Raises KafkaError."""
        offsets = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in positions.items()}
        await self.call_thread(self._ensure_consumer().commit, offsets)

    def last_fetch(self, tp: TP) -> tuple[int, int] | None:
        """End of the partition and stamp (wall clock, only to be compared for equality) of its last fetch."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment
        if assignment is None or TopicPartition(*tp) not in assignment.tps:
            return None
        state = assignment.state_value(TopicPartition(*tp))
        if state.highwater is None or state.timestamp is None:
            return None
        return int(state.highwater), int(state.timestamp)

    def forget_reached(self) -> None:
        """What was read in an earlier turn says nothing of what is read from another offset."""
        self._reached = {}

    def reached(self, tp: TP) -> Reached | None:
        """How far the partition has been read, as of the last time that records were asked for."""
        return self._reached.get(tp)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        records = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        assignment = consumer._subscription.subscription.assignment
        reached = dict(self._reached)
        for place in assignment.tps if assignment is not None else ():
            tp, state, found = TP(*place), assignment.state_value(place), records.get(place)
            if state.has_valid_position:
                before = reached.get(tp, Reached(0, 0))
                reached[tp] = Reached(state.position, found[-1].offset + 1 if found else before.handed_out)
        self._reached = reached
        return records

    async def on_thread_stop(self) -> None:
        """Leave the group; without a broker that fails, and the session timeout does it."""
        try:
            await super().on_thread_stop()
        except KafkaError as error:
            log.warning("did not leave the group", extra={"reason": type(error).__name__})


class Consumer(driver.Consumer):
    """Takes partitions over through the app's `Taker` instead of seeking to Kafka's committed offsets."""

    logger = faust_log
    RebalanceListener = Listener
    _thread: Thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.turns = 0
        self.turn: int | None = None  # None while the group rebalances
        self._taken: dict[TP, int] = {}  # partition → the turn in which it was taken over
        self._fetches: dict[TP, tuple[int, float]] = {}  # stamp of the last fetch, and when we first saw it
        self._taking: asyncio.Task[tuple[int | None, dict[TP, int]]] | None = None
        super().__init__(*args, **kwargs)
        self._read_offset = _Unfiltered()

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    @property
    def taken(self) -> list[TP]:
        """The partitions taken over and not revoked."""
        return sorted(self._taken)

    @property
    def untaken(self) -> bool:
        """Whether a partition is assigned to this process and not taken over (yet)."""
        return self.turn is not None and bool(self.assignment() - set(self._taken))

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek each assigned partition to the stored offset (once per turn) or to where the pipeline stands.

        Raises Unavailable when that was not possible in `assign_timeout_s`.
        """
        while True:
            if self._taking is None or self._taking.done():
                self._taking = asyncio.create_task(self._take_all(), name="take-partitions")
            taking = self._taking  # shared: Faust may ask twice at once, and may give one of the calls up
            await asyncio.wait([taking])
            if not taking.cancelled() and (taking.exception() or taking.result()[0] == self.turn):
                return taking.result()[1]
            if self.turn is None:
                return {}  # between revocation and assignment nothing is ours; the assignment asks again

    async def _take_all(self) -> tuple[int | None, dict[TP, int]]:
        """Take over and seek; the turn says for which assignment that was done."""
        turn = self.turn
        if turn is None:
            return None, {}
        limit_s = cast(EdgeApp, self.app).settings.assign_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._take(
                    turn, [tp for tp in sorted(self.assignment()) if self._taken.get(tp) != turn]
                )
        except TimeoutError:
            message = "partitions could not be taken over within %g s: broker or database away"
            raise Unavailable(message % limit_s) from None
        if self.turn != turn:
            return turn, {}
        taker = cast(EdgeApp, self.app).taker
        offsets = {tp: at for tp in self.taken if (at := taker.position(*tp)) is not None}
        try:
            await self.seek_wait(offsets)
        except IllegalStateError:
            return turn, {}  # revoked meanwhile; the next assignment seeks again
        return turn, offsets

    async def _take(self, turn: int, partitions: list[TP]) -> None:
        if not partitions:
            return
        app = cast(EdgeApp, self.app)
        while True:
            try:
                earliest = await self.earliest_offsets(*partitions)
                latest = await self.highwaters(*partitions)
                cluster_id = await self._thread.cluster_id()
                break
            except KafkaError as error:
                log.warning("broker did not tell its offsets", extra={"reason": type(error).__name__})
                await asyncio.sleep(app.settings.retry_first_s)
        for tp in partitions:
            offset = await app.taker.assigned(*tp, cluster_id, earliest[tp], latest[tp])
            if self.turn != turn:
                return
            self._taken[tp] = turn
            log.info(
                "partition taken", extra={"topic": tp.topic, "partition": tp.partition, "offset": offset}
            )

    async def perform_seek(self) -> None:
        """Seek; where that cannot be done the process ends, because Faust would go on reading from anywhere."""
        try:
            await super().perform_seek()
        except (Exception, asyncio.CancelledError) as error:
            if self.turn is not None and not self.should_stop and not self._superseded(error):
                cast(EdgeApp, self.app).fail(error)
            raise

    def _superseded(self, error: BaseException) -> bool:
        # a new rebalance cancels the seek of the one before
        return isinstance(error, asyncio.CancelledError) and bool(self.app.rebalancing)

    async def ask_ends(self, partitions: list[TP]) -> dict[TP, int]:
        """The ends of these partitions as the broker gives them now; without any, whether it is there at all.

        Raises KafkaError, at the latest after the request timeout.
        """
        await self._thread.cluster_id()
        return dict(await self.highwaters(*partitions)) if partitions else {}

    async def seek_back(self, tp: TP, position: int) -> None:
        """Read a partition again from `position`; nothing happens when it has been revoked meanwhile."""
        if tp not in self._taken or self.turn is None:
            return
        try:
            await self.seek_wait({tp: position})
        except IllegalStateError:
            log.info("revoked before it could be read again", extra={"partition": tp.partition})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop reading, then drop the state of every partition (each rebalance of this protocol revokes all)."""
        if self._taking is not None and not self._taking.done():
            self._taking.cancel()
            await asyncio.wait([self._taking])
        await super().on_partitions_revoked(revoked)
        self._buffered_partitions.clear()  # else an emptied queue asks for partitions that are not ours any more
        for tp in sorted(revoked | set(self._taken)):
            await cast(EdgeApp, self.app).taker.revoked(*tp)
        self._taken.clear()

    async def on_stop(self) -> None:
        """Give up a takeover that is still going on."""
        if self._taking is not None and not self._taking.done():
            self._taking.cancel()
            await asyncio.wait([self._taking])
        await super().on_stop()

    async def store_positions(self) -> None:
        """Commit the reading positions to Kafka for lag monitors; what goes wrong is only logged."""
        taker = cast(EdgeApp, self.app).taker
        positions = {tp: at for tp in self.taken if (at := taker.position(*tp)) is not None}
        if not positions or self.turn is None:
            return
        try:
            await self._thread.store_positions(positions)
        except (KafkaError, IllegalStateError) as error:
            log.info("positions not stored in Kafka", extra={"reason": type(error).__name__})

    def fetched_highwater(self, tp: TP, max_age_s: float) -> int | None:
        """The offset after the partition's last record; None unless a fetch of the last `max_age_s` told it.

        The broker's own figure counts the marks of transactions too, which never arrive: where only such are left,
        the end is the pipeline's position.
        """
        fetch = self._thread.last_fetch(tp)
        if fetch is None:
            return None
        highwater, stamp = fetch
        now_s = time.monotonic()
        if self._fetches.get(tp, (0, 0.0))[0] != stamp:
            self._fetches[tp] = (stamp, now_s)
        if now_s - self._fetches[tp][1] > max_age_s:
            return None
        reached, position = self._thread.reached(tp), cast(EdgeApp, self.app).taker.position(*tp)
        if reached is None or position is None or reached.fetched != highwater:
            return highwater
        return position if reached.handed_out <= position < highwater else highwater


class Transport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = Consumer


async def _cluster_id(consumer: aiokafka.AIOKafkaConsumer) -> str:
    client = consumer._client
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker known")
    response = await client.send(node, MetadataRequest([]))
    return str(response.cluster_id or "")
