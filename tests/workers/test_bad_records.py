"""A real worker on a real broker and database goes on behind every record that was made to stop it."""

import asyncio
import base64
from typing import Any

import asyncpg
import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.messages import SessionKey, chunk_headers, end_headers
from tests.servers.kafka import Broker
from tests.sim.scenario import CHUNK, CONTENT, speech_like
from tests.streams.test_audio import wav_of
from tests.workers.test_batches import NotText
from tests.workers.test_service import lines, worker
from workers.kafka_admin import create_topics
from workers.settings import Settings

S16LE = "audio/x-raw;format=S16LE;rate=16000;channels=1"
GOOD = SessionKey("default", "good", "11111111-1111-4111-8111-111111111111")
BOMB = b"RIFF\xe6\x0f\x00\x00WAVELIST\x1a\x00\x7f\x7fINFOISFT\x0e\x00\x00\xff"
# 26 ms of Opus on eight channels: PyAV's own reading of its frames ends the process.
EIGHT = base64.b64decode(
    "T2dnUwACAAAAAAAAAACWEBSCAAAAAMPtmcQBHU9wdXNIZWFkAQg4AYC7AAAAAAEFAwAGAQIDBAUHT2dnUwAAAAAAAAAAAACWEBSCAQAAAN7BnlIB"
    "Nk9wdXNUYWdzDQAAAExhdmY2Mi4xMi4xMDIBAAAAFQAAAGVuY29kZXI9TGF2ZjYyLjEyLjEwMk9nZ1MABDAGAAAAAAAAlhAUggIAAABW3BoGAhMT"
    "/AL//vwC//78Av/++AL//vj//vwC//78Av/+/AL//vgC//74//4="
)
Headers = list[tuple[str, bytes | None]]


def headers(
    name: str, sequence: int = 0, start: int = 0, content: str = S16LE, tenant: str = "default"
) -> Headers:
    return [*chunk_headers(SessionKey(tenant, name, name), sequence, start, content, source="test")]


async def attack(settings: Settings) -> int:
    """Write bad records around one good session, all to one partition. Returns how many records there are."""
    odd = "\U0001f600:%\u202e" * 15
    bad: list[tuple[bytes | None, bytes | None, Headers]] = [
        (b"null", bytes(3200), [*headers("null"), ("traceparent", None)]),
        (b"none", bytes(3200), [("ce_type", None)]),
        (None, b"", []),
        (b"bomb", BOMB, headers("bomb", content="audio/wav")),
        (b"jump", bytes(3200), headers("jump")),
        (b"jump", bytes(3200), headers("jump", 1, (1 << 53) - 1)),
        (b"jump", b"", [*end_headers(SessionKey("default", "jump", "jump"), 2, source="test")]),
        (b"far", bytes(3200), headers("far", (1 << 53) - 1, (1 << 53) - 1)),
        (odd.encode(), bytes(3200), headers(odd, tenant=odd)),
        (b"wide", bytes(3200 * 8), headers("wide", content=CONTENT % 8)),
        (b"eight", EIGHT, headers("eight", content="audio/ogg")),
        (b"wav64", wav_of(64, bytes(80)), headers("wav64", content="audio/wav")),
        (b"tiny", bytes(2), headers("tiny", content="audio/x-raw;format=S16LE;rate=48000;channels=1")),
    ]
    audio = speech_like(np.random.default_rng(5), 4.0, 1)
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, acks="all")
    await producer.start()
    sent = 0
    try:
        for sequence, start in enumerate(range(0, len(audio), CHUNK)):
            fine = chunk_headers(GOOD, sequence, start, S16LE, source="test")
            records = [(b"good", audio[start : start + CHUNK].tobytes(), fine), *bad[sequence : sequence + 1]]
            for key, value, record_headers in records:
                await producer.send_and_wait(
                    settings.topics.chunks, value, key=key, headers=record_headers, partition=0
                )
                sent += 1
        nameless = producer.create_batch()  # whose header has a name that is no text
        nameless._builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 14)
        nameless.append(timestamp=None, key=b"k", value=b"v", headers=[(NotText(), b"v")])
        await (await producer.send_batch(nameless, settings.topics.chunks, partition=0))
        sent += 1
        fine = end_headers(GOOD, sequence + 1, source="test")
        await producer.send_and_wait(settings.topics.chunks, b"", key=b"good", headers=fine, partition=0)
    finally:
        await producer.stop()
    return sent + 1


async def settled(database_url: str, records: int) -> dict[str, Any]:
    """Wait, at most a minute, until the stored offset is behind the last record; what the tables then hold."""
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(600):
            if await connection.fetchval("SELECT next_offset FROM partitions") == records:
                break
            await asyncio.sleep(0.1)
        return {
            "reasons": sorted(r[0] for r in await connection.fetch("SELECT reason FROM dead_letters")),
            "ended": {r[0] for r in await connection.fetch("SELECT stream_id FROM sessions WHERE ended")},
            "good": await connection.fetchval(
                "SELECT max(end_sample) FROM captions WHERE stream_id = 'good'"
            ),
        }
    finally:
        await connection.close()


def test_bad_records_stop_nothing(kafka: Broker, database_url: str, topic_prefix: str) -> None:
    settings: dict[str, Any] = kafka.settings | {
        "brokers": kafka.address,
        "topic_prefix": topic_prefix,
        "group_id": topic_prefix,
        "chunk_partitions": 1,
        "result_partitions": 1,
        "idle_flush_s": 1.0,
        "jump_wait_s": 3.0,
        "engine_factory": "tests.workers.engines:Hashing",
        "engine_args": {},
    }
    asyncio.run(create_topics(Settings(**settings)))
    records = asyncio.run(attack(Settings(**settings)))
    with worker(**settings, database_url=database_url) as process:
        next(line for line in lines(process) if line["message"] == "worker ready")
        found = asyncio.run(settled(database_url, records))
        assert process.poll() is None
    assert found["reasons"] == [
        "codec",
        "far_ahead",
        "missing_header",
        "missing_header",
        "schema",
        "sequence_jump",
        "truncated",
    ]
    assert found["ended"] == {"good", "jump"}
    assert found["good"] == 4 * 16_000
