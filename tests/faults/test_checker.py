"""The checker of the fault tests finds what is wrong: rows and messages of a real run are damaged by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from tests.faults import checker
from tests.faults.checker import Verdict, judge
from tests.faults.mark import KILLS, read, stamp, text_of
from tests.faults.rows_input import work_through
from tests.faults.run import Run
from tests.faults.script import Script, say, session
from tests.faults.stage import Stage
from tests.servers.postgres import execute, named
from tests.streams.sound import noise

FIRST = "WHERE id = (SELECT min(id) FROM %s)"
COPY = (
    "INSERT INTO transcripts (ce_id, tenant_id, stream_id, session_id, channel, segment_id, revision, run_id,"
    " start_sample, end_sample, start_ms, end_ms, is_final, text, model, published_at)"
    " SELECT ce_id || 'again', tenant_id, stream_id, session_id, channel, segment_id, revision + 1, run_id,"
    " start_sample, end_sample, start_ms, end_ms, is_final, text, model, now() FROM transcripts "
) + FIRST % "transcripts"
SWAP = (
    "UPDATE transcripts SET text = other.text FROM transcripts AS other"
    " WHERE transcripts.id = (SELECT min(id) FROM transcripts WHERE stream_id = 's0')"
    " AND other.id = (SELECT min(id) FROM transcripts WHERE stream_id = 's4')"
)
DAMAGE = {
    "a transcript is gone": ("DELETE FROM transcripts " + FIRST % "transcripts", ["missing"]),
    "a caption is gone": ("DELETE FROM captions " + FIRST % "captions", ["missing", "uncovered"]),
    "an event is gone": ("DELETE FROM events " + FIRST % "events", ["missing"]),
    "a row is there twice": (COPY, ["different", "duplicates", "overlapping"]),
    "a text is another stream's": (SWAP, ["different", "leaked"]),
    "a row is not sent": ("UPDATE captions SET published_at = NULL " + FIRST % "captions", ["unpublished"]),
    "a dead letter is gone": ("DELETE FROM dead_letters", ["dead_wrong"]),
    "a reason is wrong": ("UPDATE dead_letters SET reason = 'decode'", ["dead_wrong"]),
    "a gap is gone": ("DELETE FROM gaps", ["gaps_wrong"]),
    "a duplicate is not on record": ("DELETE FROM duplicates", ["repeats_wrong"]),
    "a session has not ended": ("UPDATE sessions SET ended = false", ["not_ended"]),
    "an offset lags": ("UPDATE partitions SET next_offset = next_offset - 1", ["lag"]),
}


def small() -> Script:
    """Two streams, one record that is none, one chunk that is lost and one that comes twice."""
    script = Script()
    say(script, 31, 9.0, session("s0", 31))
    say(script, 32, 7.0, session("s4", 31), start_s=0.03)
    script.refuse(2.0, b"x", b"rubbish", [("ce_type", b"audio.chunk.v1")], "missing_header")
    chunks = [line for line in script.lines if line.fate == "chunk" and line.partition == 0]
    script.lines.remove(chunks[30])
    script.lines += script.again([chunks[12]])
    return script


@asynccontextmanager
async def settled(stage: Stage) -> AsyncIterator[Run]:
    """A run that nothing has happened to, its worker gone."""
    run = Run(stage, small(), seed=31, settings={}, engine={"pace_s": 0.0}, outage_s=0)
    try:
        await run.open()
        await work_through(run)
        await run.settle()
        run.worker.end()
        yield run
    finally:
        await run.close()


async def look(run: Run, url: str) -> Verdict:
    """What the checker says of another database about the same run."""
    facts = await checker.gather(url, run.stage.kafka.address, run.prefix, run.settings["group_id"])
    return judge(run.expected(), facts)


async def after(run: Run, statement: str) -> Verdict:
    """The verdict on a copy of the run's database to which this was done."""
    server, copy = run.stage.postgres.url, run.database + "_copy"
    await execute(server, f"CREATE DATABASE {copy} TEMPLATE {run.database}")
    try:
        await execute(named(server, copy), statement)
        return await look(run, named(server, copy))
    finally:
        await execute(server, f"DROP DATABASE {copy} WITH (FORCE)")


async def damage_rows(run: Run) -> None:
    for what, (statement, figures) in DAMAGE.items():
        verdict = await after(run, statement)
        assert not verdict.passed, what
        assert all(getattr(verdict, figure) for figure in figures), f"{what}: {verdict.faults()}"


async def repeat_messages(run: Run) -> None:
    """The same message again is as it should be; the same id with other bytes, or an id of nobody's, is not."""
    facts = await checker.gather(run.url, run.stage.kafka.address, run.prefix, run.settings["group_id"])
    ce_id = next(i for i, row in run.expected().rows.items() if row[0] == "caption")
    (value,) = facts.messages[ce_id]
    await send(run, ce_id, value)
    assert (await look(run, run.url)).passed
    await send(run, ce_id, value.replace(b"caption", b"CAPTION"))
    await send(run, "nobody's", b"{}")
    verdict = await look(run, run.url)
    assert (verdict.unequal, verdict.unknown, verdict.missing) == (1, 1, 0)
    assert not verdict.passed


async def send(run: Run, ce_id: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=run.stage.kafka.address)
    await producer.start()
    try:
        await producer.send_and_wait(
            run.prefix + "audio.captions", value, headers=[("ce_id", ce_id.encode())]
        )
    finally:
        await producer.stop()


@pytest.mark.timeout(180)
def test_every_damage_to_rows_and_messages_is_found(stage: Stage) -> None:
    async def damage() -> None:
        async with settled(stage) as run:
            calm = await look(run, run.url)
            assert calm.passed, calm.faults()
            assert calm.expected > 15
            await damage_rows(run)
            await repeat_messages(run)

    asyncio.run(damage())


def test_a_mark_tells_whose_audio_it_is_wherever_it_is_cut() -> None:
    first = stamp(noise(2.0, 1, level=3000.0), 7, {16_000: KILLS})
    second = stamp(noise(2.0, 2, level=3000.0), 8)
    for start, end in ((0, 32_000), (1, 9000), (12_345, 23_456), (320, 640)):
        found = read(first[start:end])
        assert found is not None
        assert (found.voice, found.start, found.end) == (7, start, end)
        assert (found.action == KILLS) == (start <= 16_000 < end)
    assert read(np.concatenate([first[:8000], second[8000:16_000]])) is None
    assert read(np.concatenate([first[:8000], first[16_000:24_000]])) is None
    assert text_of(first[320:640], "caption") != text_of(second[320:640], "caption")
