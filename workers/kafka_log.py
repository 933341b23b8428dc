"""Reads a topic by offset, beside everybody else: no group, no commit, nobody is moved.

In: settings, a topic, offsets or a time. Out: `Record`s in offset order, or what the broker says of its ends. It
does not know the store. Invariant: a range is given whole or `Gone` is raised before its first record.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from storage.erasure import PartitionEnd
from streams.errors import EurekaError, Unavailable
from streams.messages import Record
from workers import batches
from workers.settings import Settings, kafka_security

POLL_MS = 500
FETCH_WAIT_MS = 20  # a seek waits for the fetch that is under way at the log's end
QUIET_POLLS = 60  # without a record or a step, half a second each, before the broker counts as away


class Gone(EurekaError):
    """The topic no longer has the records that are asked for."""


class KafkaLog:
    """An aiokafka consumer without a group. Made by `opened`."""

    def __init__(self, consumer: AIOKafkaConsumer, brokers: str) -> None:
        self._consumer = consumer
        self._brokers = brokers

    async def ends(self, topic: str) -> list[PartitionEnd]:
        """Every partition of the topic: its earliest offset and the one after its last record. Raises Unavailable."""
        with _translated(self._brokers):
            numbers = await self._numbers(topic)
            places = [TopicPartition(topic, number) for number in numbers]
            earliest = await self._consumer.beginning_offsets(places)
            latest = await self._consumer.end_offsets(places)
        return [PartitionEnd(topic, p.partition, earliest[p], latest[p]) for p in places]

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int | None:
        """The first offset whose record is not older than `time_ms`; None when all are."""
        place = TopicPartition(topic, partition)
        with _translated(self._brokers):
            found = (await self._consumer.offsets_for_times({place: time_ms}))[place]
        return None if found is None else int(found.offset)

    async def record(self, topic: str, partition: int, offset: int) -> Record:
        """The record at exactly this offset. Raises Gone."""
        async with aclosing(self.records(topic, partition, offset, offset + 1)) as records:
            async for record in records:
                return record
        raise Gone(f"{topic} {partition}: there is no record at offset {offset}")

    async def records(self, topic: str, partition: int, first: int, end: int) -> AsyncGenerator[Record, None]:
        """The records of [first, end). Raises Gone when the topic does not go that far, Unavailable."""
        bounds = {one.partition: one for one in await self.ends(topic)}.get(partition)
        if bounds is None or first < bounds.earliest or end > bounds.latest:
            has = "no such partition" if bounds is None else f"it has [{bounds.earliest}, {bounds.latest})"
            raise Gone(f"{topic} {partition}: records [{first}, {end}) are not there any more, {has}")
        place = TopicPartition(topic, partition)
        self._consumer.assign([place])
        self._consumer.seek(place, first)
        at, quiet = first, 0
        while at < end:
            with _translated(self._brokers):
                found = (await self._consumer.getmany(place, timeout_ms=POLL_MS)).get(place, [])
                reached = await self._consumer.position(place)
            for record in found:
                if record.offset < end:
                    yield _record(record)
            quiet = 0 if reached > at else quiet + 1
            at = reached
            if quiet >= QUIET_POLLS:
                raise Unavailable(f"no records from the broker at {self._brokers}")

    async def _numbers(self, topic: str) -> list[int]:
        cluster = await self._consumer._client.fetch_all_metadata()  # asking for one by name could create it
        numbers = cluster.partitions_for_topic(topic)
        if not numbers:
            raise Unavailable("topic %s is missing; run `eureka topics create`" % topic)
        return sorted(numbers)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[KafkaLog]:
    """A reader of the brokers that the settings name. Raises Unavailable."""
    batches.install()
    largest_record = settings.max_chunk_bytes + 65536
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.broker_list,
        client_id="eureka-operations",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=largest_record,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        request_timeout_ms=int(settings.request_timeout_s * 1000),
        **kafka_security(settings),
    )
    try:
        with _translated(settings.brokers):
            await consumer.start()
        yield KafkaLog(consumer, settings.brokers)
    finally:
        await consumer.stop()


@contextmanager
def _translated(brokers: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:
        raise Unavailable("no broker at %s: %s" % (brokers, type(error).__name__)) from None


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        key=message.key,
        value=message.value,
        headers=tuple((name, bytes(value)) for name, value in message.headers if value is not None),
        timestamp_ms=message.timestamp,
    )
