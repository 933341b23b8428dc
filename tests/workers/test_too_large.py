"""A message that its topic does not take for its size: it waits in the database, and nothing else waits with it."""

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from storage.sink import Store
from streams.messages import Message
from tests.servers.kafka import Broker
from tests.storage.samples import TOPIC, commit, letter, transcript
from workers import publisher as publishing
from workers.kafka_admin import create_topics
from workers.outbox import Outbox, SweepLimits
from workers.ports import LeftOut
from workers.publisher import Publisher
from workers.retry import Retry
from workers.settings import Settings
from workers.tail import tail_messages
from workers.telemetry import Telemetry

LIMIT = 4096
SMALL = [letter(offset, payload_b64="AAEC" * 300) for offset in (0, 2, 4, 6, 8)]  # together above the limit
LARGE = [letter(offset, payload_b64="SECR" * size) for offset, size in ((1, 1500), (3, 2000), (5, 2500))]
SAID = [transcript(start, start + 100) for start in (0, 100, 200)]


@pytest.fixture
async def settings(kafka: Broker, topic_prefix: str) -> Settings:
    settings = Settings(
        brokers=kafka.address, topic_prefix=topic_prefix, **(kafka.settings | {"result_partitions": 1})
    )
    await create_topics(settings)
    return settings


async def limit_dead_letters(settings: Settings, most: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    change = {"max.message.bytes": str(most)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topics.deadletters, change)])
    await admin.close()


class Counting(Telemetry):
    """Counts by name."""

    counts: Counter[str]

    def count(self, name: str, amount: int = 1, **attributes: str) -> None:
        self.counts[name] += amount


def counting() -> Counting:
    telemetry = Counting.off()
    telemetry.counts = Counter()
    return telemetry


async def sent(settings: Settings, number: int) -> Counter[str]:
    """Which messages the topics have, and how often, once there are `number`."""

    def read() -> Counter[str]:
        return Counter(m.ce_id for m in tail_messages(settings, from_start=True, limit=number))

    async with asyncio.timeout(30):
        return await asyncio.to_thread(read)


def told(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("batch", [100, 2])
async def test_the_sweep_sends_all_others_and_the_large_ones_once_the_topic_takes_them(
    kafka: Broker, settings: Settings, database_url: str, caplog: pytest.LogCaptureFixture, batch: int
) -> None:
    if not kafka.is_kafka:
        return  # the embedded broker knows no limit of a topic
    await limit_dead_letters(settings, LIMIT)
    store = await Store.open(database_url, attempts=1)
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    letters = sorted([*SMALL, *LARGE], key=lambda one: one.offset)
    await store.commit(commit(epoch, transcripts=tuple(SAID), dead_letters=tuple(letters)))
    telemetry = counting()
    publisher = await Publisher.open(settings, telemetry)
    clock = asyncio.get_running_loop().time
    outbox = Outbox(store, publisher, telemetry, Retry(clock, 0.1, 0.1), SweepLimits(5.0, 0.0, batch), clock)

    async def sweep() -> int:
        done = asyncio.Event()
        outbox.sweep_soon()
        outbox.sweep_if_due(clock(), lambda task: done.set())
        await done.wait()
        unsent = await store.counts()
        assert not unsent["transcripts_unpublished"] or batch == 2
        return unsent["transcripts_unpublished"] + unsent["dead_letters_unpublished"]

    for _ in range(2 * len([*SAID, *letters]) // batch + 2):
        left = await sweep()
    assert left == len(LARGE)
    small: list[Message] = [*SAID, *SMALL]
    assert await sent(settings, len(small)) == Counter(message.ce_id for message in small)
    lines = told(caplog)
    assert len(lines) <= len(LARGE)  # of each topic once, and again only of a larger one
    assert [line.levelname for line in lines] == ["ERROR"] * len(lines)
    assert all(line.topic == settings.topics.deadletters for line in lines)
    assert all("max.message.bytes" in line.limit for line in lines)
    assert max(line.size_bytes for line in lines) > 10000
    assert "SECR" not in str([line.__dict__ for line in lines])
    assert telemetry.counts["eureka.rows.too_large"] > len(LARGE)  # at each attempt
    assert telemetry.counts["eureka.rows.swept"] == len(small)
    assert outbox.refusals == 0

    await limit_dead_letters(settings, 1 << 20)
    for _ in range(4):
        left = await sweep()
    assert left == 0
    everything: list[Message] = [*small, *LARGE]
    assert await sent(settings, len(everything)) == Counter(message.ce_id for message in everything)
    assert told(caplog) == lines
    await outbox.close()
    await publisher.close()
    await store.close()


async def test_a_new_large_one_is_left_and_costs_few_connections(
    kafka: Broker, settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kafka.is_kafka:
        return
    await limit_dead_letters(settings, LIMIT)
    store = await Store.open(database_url, attempts=1)
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    publisher = await Publisher.open(settings, Telemetry.off())
    opened = 0
    open_producer = publishing.open_producer

    async def counted(*given: Any) -> Any:
        nonlocal opened
        opened += 1
        return await open_producer(*given)

    monkeypatch.setattr(publishing, "open_producer", counted)
    clock = asyncio.get_running_loop().time
    retry = Retry(clock, 0.1, 0.1)
    outbox = Outbox(store, publisher, counting(), retry, SweepLimits(5.0, 0.0, 9), clock)
    letters = [letter(offset, payload_b64="AAEC" * (2 if offset % 4 else 1500)) for offset in range(40)]
    await outbox.send(await store.commit(commit(epoch, dead_letters=tuple(letters))))
    assert (await store.counts())["dead_letters_unpublished"] == 10
    assert opened <= 4
    assert outbox.refusals == 0
    opened = 0
    await outbox.send(await store.commit(commit(epoch, transcripts=tuple(SAID))))  # ours is not broken
    assert opened <= 1
    assert (await store.counts())["transcripts_unpublished"] == 0
    await publisher.close()
    await store.close()


async def test_what_the_producer_itself_refuses_is_left_out(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = await Publisher.open(settings, Telemetry.off())
    large = transcript(300, 400, "x" * (2 * settings.max_message_bytes))
    for _ in range(2):
        with pytest.raises(LeftOut, match="1 messages are larger") as left:
            await publisher.publish([SAID[0], large, SAID[1]])
        assert left.value.messages == [large]
    await publisher.close()
    assert [record.limit for record in told(caplog)] == ["EUREKA_MAX_CHUNK_BYTES"]  # type: ignore[attr-defined]
    assert set(await sent(settings, 4)) == {SAID[0].ce_id, SAID[1].ce_id}
