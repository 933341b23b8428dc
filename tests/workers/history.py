"""A topic with a past, and a worker's life over it: real Kafka, real PostgreSQL, the real pipeline; no Faust, no model.

`live` takes every partition over under a new epoch, reads to the end and settles all, as a worker that is started and
stopped. The engine answers as `tests.workers.engines.Hashing` does, so a replay in an engine process must say the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import numpy as np
from aiokafka import AIOKafkaProducer

from model.answers import ChoiceAnswer, TextAnswer, Word
from storage.sink import Store
from streams.messages import SessionKey, chunk_headers, end_headers
from streams.windows import Window
from streams.wire import Headers
from tests.servers.kafka import Broker
from tests.sim.scenario import speech_like
from tests.workers.engines import text_of
from workers import kafka_log
from workers.kafka_admin import wait_for_broker
from workers.parts import pipeline_limits
from workers.pipeline import Pipeline
from workers.pool import Analysis, Poison
from workers.publisher import Publisher
from workers.replay import Clock
from workers.settings import Settings
from workers.telemetry import Telemetry

CONTENT = "audio/x-raw;format=S16LE;rate=16000;channels=1"
CHUNK = 4800  # samples: 300 ms
SETTLED_S = 30.0


def history_settings(kafka: Broker, prefix: str, url: str, **more: Any) -> Settings:
    """Settings of a deployment whose engine is `Hashing`."""
    fields: dict[str, Any] = {
        "brokers": kafka.address,
        "database_url": url,
        "topic_prefix": prefix,
        "group_id": prefix + "group",
        "chunk_partitions": 1,
        "result_partitions": 1,
        "engine_factory": "tests.workers.engines:Hashing",
        "engine_args": {},
        "max_window_s": 8,
    }
    return Settings(**(fields | kafka.settings | more))


def key_of(stream: str, session: str, tenant: str = "acme") -> SessionKey:
    return SessionKey(tenant, stream, session)


@dataclass
class Written:
    """One record for the chunk topic."""

    stream: str
    value: bytes
    headers: Headers
    partition: int = 0


def call(key: SessionKey, seed: int, seconds: float = 5.0, *, end: bool = True) -> list[Written]:
    """One session of speech-like audio in chunks, with its end."""
    audio = speech_like(np.random.default_rng(seed), seconds, 1)
    starts = range(0, len(audio), CHUNK)
    records = [
        Written(
            key.stream_id,
            audio[start : start + CHUNK].tobytes(),
            chunk_headers(key, n, start, CONTENT, source="test", ce_id="%s-%d" % (key.session_id, n)),
        )
        for n, start in enumerate(starts)
    ]
    if end:
        last = end_headers(key, len(starts), source="test", ce_id="%s-end" % key.session_id)
        records.append(Written(key.stream_id, b"", last))
    return records


async def write(settings: Settings, records: Sequence[Written]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, acks="all", max_batch_size=1 << 16)
    await producer.start()
    try:
        for one in records:
            await producer.send_and_wait(
                settings.topics.chunks,
                one.value,
                key=one.stream.encode(),
                partition=one.partition,
                headers=one.headers,
            )
    finally:
        await producer.stop()


@dataclass
class Hasher:
    """The engine of a `live`; windows of `poisoned` (track, start_sample) are refused."""

    poisoned: set[tuple[str, int]] = field(default_factory=set)

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        if (str(window.track), window.start_sample) in self.poisoned:
            raise Poison("the engine process died with this window alone, twice")
        text = text_of(window.audio, tasks)
        answers = (
            TextAnswer(tasks[0], text, "en", 0.5, (Word(text, 0, 10, 0.5),), "ctc"),
            ChoiceAnswer("question:music", "music", "music", "yes", {"yes": 0.75, "no": 0.25}),
        )
        return Analysis(answers, "hashing", "1")


async def live(settings: Settings, engine: Hasher | None = None) -> None:
    """The life of a worker: take every partition over, read to its end, settle, stop."""
    assert settings.database_url is not None
    cluster_id = await wait_for_broker(settings)
    store = await Store.open(settings.database_url, attempts=1)
    publisher = await Publisher.open(settings, Telemetry.off())
    clock = Clock()
    pipeline = Pipeline(
        clock=clock,
        store=store,
        engine=engine or Hasher(),
        publisher=publisher,
        limits=pipeline_limits(settings),
        monitor=Telemetry.off(),
    )
    try:
        async with asyncio.timeout(SETTLED_S), kafka_log.opened(settings) as log:
            for end in await log.ends(settings.topics.chunks):
                place = (end.topic, end.partition)
                at = await pipeline.assigned(*place, cluster_id, end.earliest, end.latest)
                if at == end.latest:
                    continue  # settled before, or empty
                async with aclosing(log.records(*place, at, end.latest)) as records:
                    async for record in records:
                        await pipeline.handle(record)
                pipeline.at_end(*place, end.latest)
                while not await _settled(settings, *place, end.latest):
                    assert not pipeline.failed.done(), pipeline.failed.exception()
                    clock.leap(1.0)
                    await pipeline.tick()
                    await asyncio.sleep(0.02)
        await pipeline.drain(10.0)
    finally:
        if not pipeline.failed.cancel():
            pipeline.failed.exception()
        await publisher.close()
        await store.close()


async def rows(settings: Settings, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What the database says, in plain SQL."""
    assert settings.database_url is not None
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        return [tuple(row) for row in await connection.fetch(query, *values)]
    finally:
        await connection.close()


async def _settled(settings: Settings, topic: str, partition: int, latest: int) -> bool:
    query = 'SELECT next_offset FROM partitions WHERE topic = $1 AND "partition" = $2'
    return await rows(settings, query, topic, partition) == [(latest,)]
