"""Two tenants with the same stream, session, sequences and event ids, through one engine batch: nothing crosses over.

Real engine process, real PostgreSQL. A text is the hash of the audio it was heard in, so any leak shows as a text that
the tenant's own audio does not give.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import numpy as np

from storage.sink import Store
from streams.audio import decode
from streams.messages import (
    Caption,
    Chunk,
    Message,
    Record,
    SessionKey,
    Topics,
    Transcript,
    chunk_headers,
    end_headers,
    parse,
)
from streams.windows import Cut, Gap, SessionCutter
from tests.sim.scenario import CHUNK, CONTENT, LIMITS, TOPIC, speech_like
from tests.sim.world import Faults, MemoryPublisher, Silent
from tests.workers.engines import text_of
from tests.workers.test_pool import started
from workers.device import DeviceConfig
from workers.pipeline import Pipeline
from workers.pool import EnginePool, PoolConfig
from workers.results import TASKS
from workers.spawn import EngineSpec

TENANTS = ("acme", "globex")
STREAM, SESSION = "line-1", "11111111-1111-4111-8111-111111111111"
SECONDS = 24.0
LEAST = 6  # windows that the engine wants to see together


def audio_of() -> dict[str, np.ndarray]:
    return {
        tenant: speech_like(np.random.default_rng(seed), SECONDS, 1)[:, 0]
        for seed, tenant in enumerate(TENANTS)
    }


def key_of(tenant: str) -> SessionKey:
    return SessionKey(tenant, STREAM, SESSION)


def write_log(audio: dict[str, np.ndarray]) -> list[Record]:
    """Chunk by chunk in turn, everything equal but tenant and audio; the first tenant's last chunk is no audio."""
    log: list[Record] = []

    def append(value: bytes, headers: list[tuple[str, bytes]]) -> None:
        log.append(Record(TOPIC, 0, len(log), STREAM.encode(), value, tuple(headers), len(log)))

    starts = range(0, int(SECONDS * 16_000), CHUNK)
    for sequence, start in enumerate(starts):
        for tenant in TENANTS:
            headers = chunk_headers(
                key_of(tenant), sequence, start, CONTENT % 1, source="/pbx", ce_id="id-%d" % sequence
            )
            append(audio[tenant][start : start + CHUNK].tobytes(), headers)
    last = key_of(TENANTS[0]), len(starts), int(SECONDS * 16_000)
    append(b"fLaC no audio", chunk_headers(*last, "audio/flac", source="/pbx", ce_id="last"))
    for tenant in TENANTS:
        append(b"", end_headers(key_of(tenant), source="/pbx", ce_id="end"))
    return log


def windows_of(log: list[Record], tenant: str) -> set[tuple[str, int, int, str]]:
    """`(table, start, end, text)` of every window of one tenant, from its own chunks alone, cut in one go."""
    cutter = SessionCutter(key_of(tenant), LIMITS.session.cutter, {}, None)
    cuts: list[Cut | Gap] = []
    for message in (parse(record, 1 << 20) for record in log):
        if (
            message.key == key_of(tenant)
            and isinstance(message, Chunk)
            and message.content_type != "audio/flac"
        ):
            pcm = decode(message.content_type, message.payload, LIMITS.session.audio)
            cuts += cutter.add(message, pcm, None)
    found = set()
    for cut in [*cuts, *cutter.finish()]:
        if isinstance(cut, Cut) and cut.window is not None:
            table = "transcripts" if cut.track == "speech" else "captions"
            text = text_of(cut.window.audio, TASKS[cut.track])
            found.add((table, cut.window.start_sample, cut.window.end_sample, text))
    return found


class Recording(MemoryPublisher):
    """The topics, with the messages as they were sent."""

    def __init__(self) -> None:
        super().__init__(Faults(random.Random(0)))
        self.messages: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        self.messages += messages


async def settled(sql: asyncpg.Connection) -> bool:
    waiting = [
        await sql.fetchval("SELECT count(*) FROM %s WHERE published_at IS NULL" % table)
        for table in ("transcripts", "captions", "events", "dead_letters")
    ]
    ended = await sql.fetchval("SELECT count(*) FROM sessions WHERE ended")
    return bool(sum(waiting) == 0 and ended == len(TENANTS))


async def test_two_tenants_that_look_the_same_stay_apart(database_url: str, tmp_path: Path) -> None:
    audio = audio_of()
    log = write_log(audio)
    gate, steps = tmp_path / "gate", tmp_path / "steps"
    store = await Store.open(database_url, attempts=1)
    sql = await asyncpg.connect(database_url)
    publisher = Recording()
    spec = EngineSpec(
        "tests.security.engines:Gathering", {"least": LEAST, "gate": str(gate), "log": str(steps)}, threads=1
    )
    async with started(EnginePool(PoolConfig(DeviceConfig(spec), ("cpu",)))) as pool:
        pipeline = Pipeline(
            clock=asyncio.get_running_loop().time,
            store=store,
            engine=pool,
            publisher=publisher,
            limits=replace(LIMITS, max_inflight_windows=64),
            monitor=Silent(),
        )
        await pipeline.assigned(TOPIC, 0, "cluster", 0, len(log))
        for record in log:
            await pipeline.handle(record)
        gate.touch()
        async with asyncio.timeout(60):
            while not await settled(sql):
                pipeline.at_end(TOPIC, 0, len(log))
                await pipeline.tick()
                assert not pipeline.failed.done(), pipeline.failed
                await asyncio.sleep(0.02)
        await pipeline.drain(5.0)
    expected = {tenant: windows_of(log, tenant) for tenant in TENANTS}
    rows = {tenant: await rows_of(sql, tenant) for tenant in TENANTS}
    letters = await sql.fetch("SELECT tenant_id, reason FROM dead_letters")
    talk = {tenant: await store.talk_intervals(key_of(tenant), 0) for tenant in TENANTS}
    await sql.close()
    await store.close()

    assert rows == expected
    assert all(len(windows) > 3 for windows in expected.values())
    assert not expected[TENANTS[0]] & expected[TENANTS[1]]
    assert crossed(steps, audio, expected), "no step of the engine held windows of both: nothing was tested"
    assert [tuple(letter) for letter in letters] == [(TENANTS[0], "decode")]
    for tenant in TENANTS:
        spoken = {(start, end) for table, start, end, _ in rows[tenant] if table == "transcripts"}
        assert {(start, end) for _, start, end, _ in talk[tenant]} == spoken
    told = {tenant: set[tuple[str, int, int, str]]() for tenant in TENANTS}
    for message in publisher.messages:
        out = message.outgoing(Topics.with_prefix(""))
        fields, headers = json.loads(out.value), dict(out.headers)
        assert headers["ce_tenant"].decode() == fields["tenant_id"]
        if isinstance(message, Transcript | Caption):
            assert headers["ce_id"].decode().startswith(fields["tenant_id"] + ":")
            place = (message.kind + "s", message.start_sample, message.end_sample, fields["text"])
            told[fields["tenant_id"]].add(place)
    assert told == expected


async def rows_of(sql: asyncpg.Connection, tenant: str) -> set[tuple[str, int, int, str]]:
    found = set()
    for table in ("transcripts", "captions"):
        query = "SELECT start_sample, end_sample, text FROM %s WHERE tenant_id = $1" % table
        found |= {(table, *tuple(row)) for row in await sql.fetch(query, tenant)}
    return found


def crossed(
    steps: Path, audio: dict[str, np.ndarray], expected: dict[str, set[tuple[str, int, int, str]]]
) -> bool:
    owner = {text.partition(":")[0]: tenant for tenant in TENANTS for _, _, _, text in expected[tenant]}
    held = [{owner[digest] for digest in line.split()} for line in steps.read_text().splitlines()]
    return any(len(tenants) == len(TENANTS) for tenants in held)
