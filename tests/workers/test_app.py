"""The Faust edge on a real broker: where reading starts, what arrives in which order, and how it ends."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from faust.types import TP
from faust.types.tuples import Message as KafkaMessage

from streams.errors import Reject, Unavailable
from streams.messages import SessionKey, chunk_headers, parse
from streams.wire import known_key
from tests.servers.kafka import Broker, KafkaServer
from tests.workers.recorder import Offsets, Recorder
from tests.workers.test_batches import NotText
from workers.app import Edge, _record
from workers.kafka_admin import create_topics, wait_for_broker
from workers.settings import Settings
from workers.watchdog import Stalled


def edge_settings(address: str, prefix: str, partitions: int = 2, **more: Any) -> Settings:
    return Settings(
        brokers=address,
        topic_prefix=prefix,
        group_id=prefix + "group",
        chunk_partitions=partitions,
        result_partitions=1,
        tick_interval_s=0.05,
        commit_interval_s=0.2,
        **more,
    )


async def produce(settings: Settings, partition: int, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, acks="all", max_batch_size=1)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(
                settings.topics.chunks, value, key=b"k", partition=partition, headers=[("h", value)]
            )
    finally:
        await producer.stop()


@asynccontextmanager
async def running(edge: Edge) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(edge.run(lambda taken: None))
    try:
        yield task
    finally:
        edge.stop()
        async with asyncio.timeout(30):
            await asyncio.wait([task])
        if task.done() and not task.cancelled():
            task.result()  # an edge that died is the reason for whatever the test waited for in vain


def test_a_header_without_a_value_is_left_out() -> None:
    message = KafkaMessage(
        "t", 0, 7, 1.0, 0, [("traceparent", None), ("h", b"v")], b"k", b"", None, None, None
    )
    assert _record(message).headers == (("h", b"v"),)


async def test_reading_starts_at_the_stored_offset(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, **kafka.settings)
    topic = settings.topics.chunks
    await create_topics(settings)
    await produce(settings, 0, [b"a%d" % n for n in range(10)])
    await produce(settings, 1, [b"b%d" % n for n in range(5)])
    recorder = Recorder(Offsets(next_offset={(topic, 0): 7}))

    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: len(recorder.records) == 8)
        await recorder.until(lambda: recorder.ends == {(topic, 0): 10, (topic, 1): 5})

    assert [r.value for r in recorder.records if r.partition == 0] == [b"a7", b"a8", b"a9"]
    assert [r.value for r in recorder.records if r.partition == 1] == [b"b%d" % n for n in range(5)]
    assert recorder.records[0].headers == (("h", recorder.records[0].value),)
    assert sorted(recorder.takes) == [(topic, 0, 7), (topic, 1, 0)]
    assert sorted(recorder.ranges) == [(0, 5), (0, 10)]
    assert len(recorder.clusters) == 1
    assert recorder.misplaced == []


async def test_rebalances_deliver_each_record_once_and_in_place(kafka: Broker, topic_prefix: str) -> None:
    if not kafka.is_kafka:
        pytest.skip("two workers in one group need Apache Kafka")
    settings = edge_settings(kafka.address, topic_prefix, partitions=4, **kafka.settings)
    topic = settings.topics.chunks
    await create_topics(settings)
    offsets = Offsets()
    first, second = Recorder(offsets), Recorder(offsets)
    enough = asyncio.Event()

    async def produce_until_enough() -> int:
        """Produce as long as it takes: a fixed number could be read before the second worker has joined."""
        count = 0
        while not enough.is_set():
            for partition in range(4):
                await produce(settings, partition, [b"%d" % n for n in range(count, count + 10)])
            count += 10
        return count

    async with running(Edge(settings, first)):
        await first.until(lambda: first.partitions == {0, 1, 2, 3})
        producing = asyncio.create_task(produce_until_enough())
        await first.until(lambda: len(first.records) >= 20)
        async with running(Edge(settings, second)):
            await second.until(lambda: len(second.partitions) == 2 and len(second.records) >= 20)
            assert first.partitions | second.partitions == {0, 1, 2, 3}
        await first.until(lambda: first.partitions == {0, 1, 2, 3})
        enough.set()
        count = await producing
        await first.until(lambda: all(offsets.next_offset.get((topic, p)) == count for p in range(4)))

    for partition in range(4):
        records = offsets.committed[topic, partition]
        assert [r.offset for r in records] == list(range(count))
        assert [r.value for r in records] == [b"%d" % n for n in range(count)]
    assert first.misplaced == second.misplaced == []
    assert max(offsets.epoch.values()) <= 4, "an epoch belongs to one assignment, however often Faust seeks"


async def test_a_rebalance_goes_through_while_the_pipeline_is_blocked(
    kafka: Broker, topic_prefix: str
) -> None:
    if not kafka.is_kafka:
        pytest.skip("two workers in one group need Apache Kafka")
    settings = edge_settings(
        kafka.address, topic_prefix, partitions=4, fetch_buffer_records=4, **kafka.settings
    )
    topic = settings.topics.chunks
    await create_topics(settings)
    for partition in range(4):
        await produce(settings, partition, [b"%d" % n for n in range(20)])
    offsets = Offsets()
    first, second = Recorder(offsets), Recorder(offsets)
    first.gate.clear()  # a busy engine, or a database that is away
    edge = Edge(settings, first)
    async with running(edge):
        await first.until(lambda: any(queue.full() for queue in edge.app.flow_control._queues))
        async with running(Edge(settings, second)):
            await second.until(lambda: len(second.partitions) == 2 and len(second.records) == 40)
            await first.until(lambda: len(first.partitions) == 2)
            assert first.records == []
            first.gate.set()
            await first.until(lambda: len(first.records) == 40)
    for partition in range(4):
        assert [r.offset for r in offsets.committed[topic, partition]] == list(range(20))
    assert first.misplaced == second.misplaced == []


async def test_a_seek_behind_our_back_loses_and_repeats_nothing(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    topic = settings.topics.chunks
    await create_topics(settings)
    await produce(settings, 0, [b"%d" % n for n in range(100)])
    recorder = Recorder(Offsets())
    recorder.gate.clear()  # the buffers between broker and pipeline fill up
    edge = Edge(settings, recorder)
    async with running(edge):
        await recorder.until(lambda: any(queue.qsize() for queue in edge.app.flow_control._queues))
        await edge._consumer.seek_wait({TP(topic, 0): 95})
        recorder.gate.set()
        await produce(settings, 0, [b"100"])
        await recorder.until(lambda: len(recorder.records) == 101)
        await edge._consumer.seek_wait({TP(topic, 0): 3})
        await produce(settings, 0, [b"101"])
        await recorder.until(lambda: len(recorder.records) == 102)
    assert [r.value for r in recorder.records] == [b"%d" % n for n in range(102)]
    assert recorder.offsets.epoch == {(topic, 0): 1}


async def test_a_busy_pipeline_holds_the_buffers_small_and_the_membership_alive(
    kafka: Broker, topic_prefix: str
) -> None:
    quick = kafka.settings | ({"session_timeout_s": 2.0} if kafka.is_kafka else {})
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, fetch_buffer_records=4, **quick)
    topic = settings.topics.chunks
    await create_topics(settings)
    await produce(settings, 0, [b"%d" % n for n in range(60)])
    recorder = Recorder(Offsets())
    edge = Edge(settings, recorder)
    async with running(edge):
        recorder.gate.clear()
        await recorder.until(lambda: recorder.partitions == {0})
        beats = int(settings.session_timeout_s * 1.5 / settings.tick_interval_s)
        await recorder.until(lambda: recorder.ticks > beats)  # longer than the session timeout
        queued = [q.qsize() for q in edge.app.flow_control._queues]
        assert max(queued) <= 2 * settings.fetch_buffer_records
        assert recorder.records == []
        recorder.gate.set()
        await recorder.until(lambda: len(recorder.records) == 60)
    assert recorder.offsets.epoch == {(topic, 0): 1}


async def test_the_lag_shows_while_a_busy_pipeline_fetches_nothing(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(
        kafka.address,
        topic_prefix,
        partitions=1,
        fetch_buffer_records=4,
        highwater_max_age_s=0.5,
        **kafka.settings,
    )
    topic = settings.topics.chunks
    await create_topics(settings)
    await produce(settings, 0, [b"%d" % n for n in range(20)])
    recorder = Recorder(Offsets())
    recorder.gate.clear()
    edge = Edge(settings, recorder)
    async with running(edge):
        await recorder.until(lambda: TP(topic, 0) in edge._silent)
        await produce(settings, 0, [b"%d" % n for n in range(20, 60)])
        await recorder.until(lambda: recorder.ends == {(topic, 0): 60})
        assert recorder.records == []
        recorder.gate.set()
        await recorder.until(lambda: len(recorder.records) == 60)


async def test_an_unexpected_exception_ends_the_edge(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    await create_topics(settings)
    await produce(settings, 0, [b"x", b"y"])
    recorder = Recorder(Offsets())
    recorder.raises = ZeroDivisionError("as a defect would")
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(30):
            await Edge(settings, recorder).run(lambda taken: None)
    assert recorder.records == []
    assert recorder.drained_s is None


async def test_stop_drains_once_and_takes_no_more(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, drain_grace_s=3.0, **kafka.settings)
    await create_topics(settings)
    await produce(settings, 0, [b"x", b"y"])
    recorder = Recorder(Offsets())
    edge = Edge(settings, recorder)
    async with asyncio.timeout(30):
        running_edge = asyncio.create_task(edge.run(lambda taken: None))
        await recorder.until(lambda: len(recorder.records) == 2)
        edge.stop()
        await running_edge
    assert recorder.drained_s == 3.0


async def test_an_empty_value_and_no_key_arrive_as_they_are(kafka: Broker, topic_prefix: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    await create_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, acks="all", max_batch_size=1)
    await producer.start()
    await producer.send_and_wait(settings.topics.chunks, b"", key=None, partition=0, headers=[("a", b"\xff")])
    await producer.send_and_wait(settings.topics.chunks, None, key=b"\x00", partition=0)
    await producer.stop()
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: len(recorder.records) == 2)
    assert [(r.key, r.value, r.headers) for r in recorder.records] == [
        (None, b"", (("a", b"\xff"),)),
        (b"\x00", None, ()),
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches_are_read(kafka: Broker, topic_prefix: str, codec: str) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    await create_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, compression_type=codec, linger_ms=50)
    await producer.start()
    sent = [bytes(3200) + b"%d" % n for n in range(5)]
    acks = [await producer.send(settings.topics.chunks, value, partition=0) for value in sent]
    await asyncio.gather(*acks)
    await producer.stop()
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: len(recorder.records) == 5)
    assert [r.value for r in recorder.records] == sent


@pytest.mark.parametrize("codec", [None, "zstd"])
async def test_a_header_name_that_is_no_text_stops_nobody(
    kafka: Broker, topic_prefix: str, codec: str | None
) -> None:
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    await create_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
    await producer.start()
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(2, 4 if codec else 0, 0, -1, -1, 0, 1 << 14)
    key = SessionKey("default", "k", "s")
    for n in range(4):
        headers = [*chunk_headers(key, n, n * 80, "audio/L16;rate=8000", source="t")]
        if n == 1:
            headers.insert(0, (NotText(), b"v"))
        batch.append(timestamp=None, key=b"k", value=b"%d" % n, headers=headers)
    await (await producer.send_batch(batch, settings.topics.chunks, partition=0))
    await producer.stop()
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: len(recorder.records) == 4)
    assert [(r.offset, r.value) for r in recorder.records] == [(n, b"%d" % n) for n in range(4)]
    assert recorder.misplaced == []
    for record in recorder.records:
        if record.offset == 1:
            with pytest.raises(Reject, match=r"schema.*a header name is not UTF-8"):
                parse(record, 100)
            assert known_key(record) == key
        else:
            assert parse(record, 100).key == key


def rot(folder: Path, topic: str) -> None:
    """Change one record of the topic's first partition behind the broker's back."""
    (segment,) = folder.rglob("%s-0/*.log" % topic)
    segment.write_bytes(segment.read_bytes().replace(b"canary", b"canarx"))


async def test_a_batch_that_rotted_on_the_brokers_disk_costs_its_records_and_no_more(
    own_kafka: KafkaServer, topic_prefix: str, tmp_path: Path
) -> None:
    settings = edge_settings(own_kafka.address, topic_prefix, partitions=1)
    own_kafka.start()
    await wait_for_broker(settings)
    await create_topics(settings)
    await produce(settings, 0, [b"before", b"canary", b"after"])
    await asyncio.to_thread(
        own_kafka.stop, signal.SIGTERM
    )  # in order: else it looks its log over at its start
    await asyncio.to_thread(rot, tmp_path, settings.topics.chunks)
    await asyncio.to_thread(own_kafka.start)
    await wait_for_broker(settings)
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: len(recorder.records) == 3)
    assert [(r.offset, r.value) for r in recorder.records] == [(0, b"before"), (1, None), (2, b"after")]
    with pytest.raises(Reject, match=r"schema.*its batch has a wrong checksum"):
        parse(recorder.records[1], 100)
    assert recorder.misplaced == []


async def test_the_mark_of_a_transaction_is_not_waited_for(kafka: Broker, topic_prefix: str) -> None:
    if not kafka.is_kafka:
        pytest.skip("transactions need Apache Kafka")
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **kafka.settings)
    topic = settings.topics.chunks
    await create_topics(settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, transactional_id=topic_prefix)
    await producer.start()

    async def transact(*values: bytes) -> None:
        async with producer.transaction():
            for value in values:
                await producer.send_and_wait(topic, value, partition=0)

    await transact(b"0", b"1")
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)):
        await recorder.until(lambda: recorder.ends == {(topic, 0): 2})
        await transact(b"3")
        await recorder.until(lambda: recorder.ends == {(topic, 0): 4})
    again = Recorder(recorder.offsets)  # starts at the mark
    async with running(Edge(settings, again)):
        await again.until(lambda: again.ends == {(topic, 0): 4})
    await producer.stop()
    assert [r.value for r in recorder.records + again.records] == [b"0", b"1", b"3"]


QUICK: dict[str, Any] = {
    "request_timeout_s": 2.0,
    "session_timeout_s": 2.0,
    "heartbeat_interval_s": 0.5,
    "assign_timeout_s": 1.9,
    "rebalance_timeout_s": 2.0,
    "highwater_max_age_s": 0.5,
    "stall_after_s": 4.5,
}


async def test_a_consumer_that_reads_no_more_ends_the_edge(kafka: Broker, topic_prefix: str) -> None:
    if not kafka.is_kafka:
        pytest.skip("a short session timeout needs Apache Kafka")
    settings = edge_settings(kafka.address, topic_prefix, partitions=1, **(kafka.settings | QUICK))
    topic = settings.topics.chunks
    await create_topics(settings)
    await produce(settings, 0, [b"x"])
    recorder = Recorder(Offsets())
    edge = Edge(settings, recorder)
    running_edge = asyncio.create_task(edge.run(lambda taken: None))
    await recorder.until(lambda: recorder.ends == {(topic, 0): 1})
    edge._consumer._thread._ensure_consumer().pause(TopicPartition(topic, 0))  # as a defect would leave it
    await produce(settings, 0, [b"y", b"z"])
    with pytest.raises(Stalled, match=r"chunks-0: 2 records to read"):
        async with asyncio.timeout(60):
            await running_edge
    assert len(recorder.records) == 1


async def test_a_broker_that_is_away_for_long_is_no_standstill(
    own_kafka: KafkaServer, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "workers.broker_watch")
    settings = edge_settings(own_kafka.address, topic_prefix, partitions=1, **QUICK)
    own_kafka.start()
    await wait_for_broker(settings)
    await create_topics(settings)
    recorder = Recorder(Offsets())
    edge = Edge(settings, recorder)
    async with running(edge) as task:
        await produce(settings, 0, [b"before"])
        await recorder.until(lambda: len(recorder.records) == 1)
        await asyncio.to_thread(own_kafka.stop)
        asked = 2 * settings.stall_after_s / settings.highwater_max_age_s  # one answer each, at the most
        await recorder.until(
            lambda: edge._broker.refusals > asked and edge.state().broker_away, limit_s=120.0
        )
        assert not task.done()
        await asyncio.to_thread(own_kafka.start)
        await produce(settings, 0, [b"after"])
        await recorder.until(lambda: len(recorder.records) == 2, limit_s=60.0)
        await recorder.until(lambda: not edge.state().broker_away)
    told = [record.getMessage() for record in caplog.records if record.name == "workers.broker_watch"]
    assert (told[0], told[-1]) == ("the broker is away", "the broker is back")
    assert len(told) < asked / 2, "said once per reason, not at every refusal"


async def test_the_broker_goes_away_and_comes_back(own_kafka: KafkaServer, topic_prefix: str) -> None:
    settings = edge_settings(
        own_kafka.address,
        topic_prefix,
        partitions=1,
        session_timeout_s=6.0,
        heartbeat_interval_s=0.5,
        highwater_max_age_s=1.0,
        broker_attempts=2,
        broker_retry_s=0.1,
    )
    topic = settings.topics.chunks
    with pytest.raises(Unavailable, match="gave up after 2 attempts"):
        await wait_for_broker(settings)
    own_kafka.start()
    await wait_for_broker(settings)
    await create_topics(settings)
    recorder = Recorder(Offsets())
    async with running(Edge(settings, recorder)) as task:
        await produce(settings, 0, [b"before"])
        await recorder.until(lambda: len(recorder.records) == 1)
        await asyncio.to_thread(own_kafka.stop)
        await recorder.until(lambda: recorder.ends.get((topic, 0)) == 2)  # the end is not known any more
        await asyncio.to_thread(own_kafka.start)
        await produce(settings, 0, [b"after"])
        await recorder.until(lambda: len(recorder.records) == 2, limit_s=60.0)
        assert not task.done()
    assert [r.value for r in recorder.records] == [b"before", b"after"]
    assert len(recorder.clusters) == 1
