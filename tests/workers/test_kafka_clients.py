"""Topics, publisher and tail on a real broker."""

import asyncio
import json
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.cluster import ClusterMetadata

from streams.errors import Unavailable
from streams.messages import Chunk, ModelRef, Record, SessionEnd, SessionKey, Transcript, parse
from tests.servers.kafka import Broker, free_ports
from workers.kafka_admin import check_topics, create_topics, wait_for_broker
from workers.publisher import Publisher
from workers.send import Sent, send_files, send_stream
from workers.settings import Settings
from workers.tail import tail_messages
from workers.telemetry import Telemetry, new_traceparent


def client_settings(kafka: Broker, prefix: str, **more: Any) -> Settings:
    return Settings(
        brokers=kafka.address, topic_prefix=prefix, **(kafka.settings | {"result_partitions": 1} | more)
    )


def transcript(stream_id: str, start_sample: int, text: str) -> Transcript:
    return Transcript(
        tenant_id="default",
        stream_id=stream_id,
        session_id="s",
        channel=0,
        segment_id="s:0:%d" % start_sample,
        start_ms=start_sample // 16,
        end_ms=start_sample // 16 + 1000,
        start_sample=start_sample,
        end_sample=start_sample + 16000,
        traceparent=new_traceparent(),
        text=text,
        model=ModelRef(name="m", version="1"),
    )


async def test_topics_are_created_once_and_a_changed_count_is_found(kafka: Broker, topic_prefix: str) -> None:
    settings = client_settings(kafka, topic_prefix, chunk_partitions=3)
    states = await check_topics(settings)
    assert [state.problem for state in states] == ["missing: run `eureka topics create`"] * 6
    assert len(await create_topics(settings)) == 6
    assert await create_topics(settings) == []
    assert [state.problem for state in await check_topics(settings)] == [None] * 6
    chunks, *_ = await check_topics(settings.model_copy(update={"chunk_partitions": 4}))
    assert chunks.problem is not None
    assert chunks.problem.startswith("has 3 partitions, expected 4")
    if kafka.is_kafka:
        chunks, *_ = await check_topics(settings.model_copy(update={"max_chunk_bytes": 1 << 24}))
        assert chunks.problem is not None
        assert "max.message.bytes" in chunks.problem


async def test_what_is_published_can_be_read_in_order_with_its_id(kafka: Broker, topic_prefix: str) -> None:
    settings = client_settings(kafka, topic_prefix)
    await create_topics(settings)
    messages = [transcript("a", n * 16000, "text %d" % n) for n in range(5)]
    publisher = await Publisher.open(settings, Telemetry.off())
    await publisher.publish(messages)
    await publisher.publish([])
    await publisher.close()

    def read() -> list[tuple[str, str, dict[str, Any]]]:
        return [(m.kind, m.ce_id, m.fields) for m in tail_messages(settings, from_start=True, limit=5)]

    async with asyncio.timeout(30):
        got = await asyncio.to_thread(read)
    assert got == [("transcript", m.ce_id, json.loads(m.outgoing(settings.topics).value)) for m in messages]


async def test_files_are_sent_as_streams_with_order_end_and_traces(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    settings = client_settings(kafka, topic_prefix, chunk_partitions=1, tenant_default="acme")
    await create_topics(settings)
    for name in ("one", "two"):
        with wave.open(str(tmp_path / (name + ".wav")), "wb") as file:
            file.setparams((2, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.arange(2 * 8000 * 2, dtype="<i2").tobytes())
    files = [tmp_path / "one.wav", tmp_path / "two.wav"]
    heard: list[tuple[int, int]] = []

    def send() -> list[Sent]:
        reports = send_files(
            settings, files, speed=None, content_type="audio/PCMU", chunk_ms=200, roles=("agent", "customer")
        )
        early = threading.Event()
        early.set()
        stream = send_stream(settings, files[0], stream_id="cut", content_type="audio/wav", stop=early)
        live = send_stream(
            settings,
            files[0],
            stream_id="live",
            content_type="audio/wav",
            chunk_ms=1000,
            speed=20,
            on_sent=lambda end_sample, rate: heard.append((end_sample, rate)),
        )
        return [*reports, stream, live]

    async with asyncio.timeout(30):
        one, two, cut, live = await asyncio.to_thread(send)
        records = await read_all(settings, 2 * (10 + 1) + 1 + 3)
    assert (one.chunks, one.audio_s, one.complete, one.stream_id) == (10, 2.0, True, "one")
    assert (two.chunks, cut.chunks, cut.complete, live.chunks) == (10, 0, False, 2)
    assert heard == [(8000, 8000), (16000, 8000)]

    parsed = [parse(record, settings.max_chunk_bytes) for record in records]
    for sent in (one, two):
        *chunks, end = [message for message in parsed if message.key.session_id == sent.session_id]
        assert end.key == SessionKey("acme", sent.stream_id, sent.session_id)
        assert isinstance(end, SessionEnd)
        assert end.sequence == 10
        assert [c.sequence for c in chunks] == list(range(10))
        assert [c.start_sample for c in chunks if isinstance(c, Chunk)] == list(range(0, 16000, 1600))
        assert {c.roles for c in chunks if isinstance(c, Chunk)} == {("agent", "customer")}
    assert len({message.traceparent for message in parsed} - {None}) == len(parsed)


async def read_all(settings: Settings, count: int) -> list[Record]:
    """The first `count` records of the chunk topic's only partition."""
    consumer = AIOKafkaConsumer(
        settings.topics.chunks, bootstrap_servers=settings.brokers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        got = [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()
    return [
        Record(r.topic, r.partition, r.offset, r.key, r.value, tuple(r.headers), r.timestamp) for r in got
    ]


async def test_a_missing_topic_and_an_unknown_kind_are_said(kafka: Broker, topic_prefix: str) -> None:
    settings = client_settings(kafka, topic_prefix)
    with pytest.raises(ValueError, match="transcript"):
        next(tail_messages(settings, kinds=["rumour"]))
    with pytest.raises(Unavailable, match="topics create"):
        await asyncio.to_thread(next, tail_messages(settings, kinds=["event"]))


async def test_without_a_broker_everything_says_so_and_ends() -> None:
    address = "127.0.0.1:%d" % free_ports(1)[0]
    settings = Settings(brokers=address, broker_attempts=2, broker_retry_s=0.05)
    with pytest.raises(Unavailable, match="no broker at %s.*gave up after 2 attempts" % address):
        await wait_for_broker(settings)
    with pytest.raises(Unavailable, match="no broker at"):
        await Publisher.open(settings, Telemetry.off())


async def test_a_message_that_is_not_acknowledged_is_unavailable(kafka: Broker, topic_prefix: str) -> None:
    settings = client_settings(kafka, topic_prefix, publish_timeout_s=1.0)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    await admin.create_topics([NewTopic(settings.topics.events, 1, 1)])
    await admin.close()
    publisher = await Publisher.open(settings, Telemetry.off())
    with pytest.raises(Unavailable, match="1 messages not acknowledged"):
        await publisher.publish([transcript("a", 0, "to a topic that is not there")])
    await publisher.close()


async def test_after_a_time_without_a_leader_messages_are_sent_again(
    kafka: Broker, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = client_settings(kafka, topic_prefix, publish_timeout_s=1.0)
    await create_topics(settings)
    messages = [transcript("a", n * 16000, "text %d" % n) for n in range(3)]
    publisher = await Publisher.open(settings, Telemetry.off())
    await publisher.publish(messages[:1])
    with monkeypatch.context() as patched:  # what a broker tells that has just come back
        patched.setattr(ClusterMetadata, "leader_for_partition", lambda self, place: -1)
        for _ in range(3):  # the batch of the first is numbered and given up while the others wait
            with pytest.raises(Unavailable):
                await publisher.publish(messages[1:2])
    async with asyncio.timeout(20):
        while True:
            try:
                await publisher.publish(messages)
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    await publisher.close()
