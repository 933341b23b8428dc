"""History analysed again on real Kafka and PostgreSQL, in a real engine process, beside what the live run has."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from storage.replays import ReplayStore
from storage.sink import Commit
from streams.errors import Unavailable
from tests.servers.kafka import Broker
from tests.workers.history import call, history_settings, key_of, live, rows, write
from workers.kafka_admin import create_topics
from workers.kafka_log import Gone
from workers.publisher import Publisher
from workers.replay import Asked, NotPossible, replay
from workers.settings import Settings
from workers.tail import tail_messages

RESULTS = {
    "transcripts": "session_id, channel, start_sample, end_sample, text",
    "captions": "session_id, channel, start_sample, end_sample, text",
    "events": "session_id, channel, start_sample, end_sample, event_type, label, value",
}
LIVE_STATE = (
    "SELECT row_to_json(p)::text FROM partitions p",
    "SELECT row_to_json(s)::text FROM sessions s ORDER BY session_id",
    "SELECT row_to_json(p)::text FROM progress p ORDER BY session_id, channel, track",
    "SELECT row_to_json(s)::text FROM streams s ORDER BY stream_id",
    "SELECT row_to_json(d)::text FROM dead_letters d",
    "SELECT row_to_json(g)::text FROM gaps g",
    "SELECT row_to_json(t)::text FROM transcripts t WHERE run_id = 'live' ORDER BY id",
)
STREAM = Asked("acme", "line")


@pytest.fixture
async def settings(kafka: Broker, database_url: str, topic_prefix: str) -> Settings:
    """Two sessions of one stream and one of another tenant's of the same name, analysed live; a chunk came late."""
    made = history_settings(kafka, topic_prefix, database_url)
    await create_topics(made)
    first = call(key_of("line", "s1"), 1, 12.0)
    first.append(first[7])
    await write(made, [*first, *call(key_of("line", "s1", "other"), 3), *call(key_of("line", "s2"), 2)])
    await live(made)
    return made


async def of_run(settings: Settings, run: str) -> dict[str, list[Any]]:
    return {
        table: await rows(
            settings,
            f"SELECT {columns} FROM {table} WHERE run_id = $1 AND tenant_id = 'acme' ORDER BY {columns}",
            run,
        )
        for table, columns in RESULTS.items()
    }


async def test_a_replay_finds_what_the_live_run_found_and_touches_nothing_of_it(
    settings: Settings, kafka: Broker
) -> None:
    before = [await rows(settings, query) for query in LIVE_STATE]
    hasty = settings.model_copy(
        update={"shed_scenes_after_s": 1e-6, "live_lag_records": 0}
    )  # history is never too old for a replay
    done = await replay(hasty, STREAM, "again")
    assert [await rows(settings, query) for query in LIVE_STATE] == before
    found = await of_run(settings, "again")
    assert found == await of_run(settings, "live")
    assert all(found.values())
    assert done.added == {kind: len(found[kind + "s"]) for kind in ("transcript", "caption", "event")}
    assert (done.known, done.refused) == (0, {})
    unsent = "SELECT count(*) FROM transcripts WHERE published_at IS NULL"
    assert await rows(settings, unsent) == [(0,)]

    total = sum(len(lines) for lines in found.values())

    def read() -> set[str]:
        messages = set()  # a topic may have one twice
        for message in tail_messages(settings, from_start=True, limit=10 * total + 100):
            if message.fields["run_id"] == "again":
                messages.add(message.ce_id)
            if len(messages) == total:
                break
        return messages

    async with asyncio.timeout(60):
        told = await asyncio.to_thread(read)
    assert len(told) == total
    assert all(name.endswith(":0:again") for name in told)

    twice = await replay(settings, STREAM, "again")
    assert (twice.added, twice.windows) == ({}, 0)
    assert await of_run(settings, "again") == found
    one = await replay(settings, Asked("acme", "line", "s2"), "only-s2")
    assert {row[0] for row in (await of_run(settings, "only-s2"))["transcripts"]} == {"s2"}
    assert one.records < done.records
    with pytest.raises(NotPossible, match="another range"):
        await replay(settings, Asked("acme", "line", "s1"), "only-s2")
    for bad in ("live", "", "a b", "x" * 101):
        if bad:
            with pytest.raises(NotPossible, match="run id"):
                await replay(settings, STREAM, bad)
    with pytest.raises(NotPossible, match="not known"):
        await replay(settings, Asked("acme", "unheard"), "r")
    with pytest.raises(NotPossible, match="not known"):
        await replay(settings, Asked("nobody", "line"), "r")


async def test_a_replay_that_was_cut_off_goes_on_and_adds_the_rest_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = ReplayStore.commit

    async def dies(self: ReplayStore, what: Commit) -> Any:
        if self.stored:
            raise RuntimeError("killed")
        return await commit(self, what)

    async def away(self: Publisher, messages: Any) -> None:
        raise Unavailable("no broker")

    narrow = settings.model_copy(update={"max_inflight_windows": 1, "max_uncommitted_records": 2})
    with monkeypatch.context() as patch:
        patch.setattr(ReplayStore, "commit", dies)
        patch.setattr(Publisher, "publish", away)
        with pytest.raises(RuntimeError, match="killed"):
            await replay(narrow, STREAM, "again")
    unsent = """SELECT bool_or(published_at IS NULL) FROM
        (SELECT published_at FROM transcripts UNION ALL SELECT published_at FROM captions) results"""
    assert await rows(settings, unsent) == [(True,)]
    part = await of_run(settings, "again")
    want = await of_run(settings, "live")
    assert 0 < sum(map(len, part.values())) < sum(map(len, want.values()))
    assert await rows(settings, "SELECT finished_at FROM replays") == [(None,)]
    await write(settings, call(key_of("line", "s3"), 5))  # what comes later does not belong to the run
    done = await replay(settings, STREAM, "again")
    assert done.known > 0
    assert await of_run(settings, "again") == want
    assert sum(done.added.values()) == sum(map(len, want.values())) - sum(map(len, part.values()))
    assert await rows(settings, unsent) == [(False,)]


async def test_a_range_of_time_and_records_that_are_gone(settings: Settings, kafka: Broker) -> None:
    now = datetime.now(UTC)
    with pytest.raises(NotPossible, match="no record is as young"):
        await replay(settings, Asked("acme", "line", begin=now + timedelta(days=1)), "r1")
    nothing = await replay(settings, Asked("acme", "line", end=now - timedelta(days=1)), "r2")
    assert (nothing.records, nothing.added) == (0, {})
    if not kafka.is_kafka:
        return  # the embedded broker deletes no records
    topic = settings.topics.chunks
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=10)})
    await admin.close()
    for begin in (None, now - timedelta(hours=1)):
        with pytest.raises(Gone, match=r"records before .* are gone; begin there or later"):
            await replay(settings, Asked("acme", "line", begin=begin), "r3")
    await rows(
        settings,
        "INSERT INTO replays VALUES ('acme', 'r4', 'line', NULL, $1, 0, 0, 0, 20, $2)",
        topic,
        str(STREAM),
    )
    with pytest.raises(Gone, match=r"records \[0, 20\) are not there any more, it has \[10, "):
        await replay(settings, STREAM, "r4")


async def test_without_a_database_it_says_so(settings: Settings) -> None:
    with pytest.raises(Unavailable, match="no database"):
        await replay(settings.model_copy(update={"database_url": None}), STREAM, "r")


async def test_from_the_command_line(settings: Settings, kafka: Broker, database_url: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EUREKA_")}
    environment |= {
        "EUREKA_BROKERS": kafka.address,
        "EUREKA_DATABASE_URL": database_url,
        "EUREKA_TOPIC_PREFIX": settings.topic_prefix,
        "EUREKA_ENGINE_FACTORY": settings.engine_factory,
        "EUREKA_ENGINE_ARGS": "{}",
        "EUREKA_MAX_WINDOW_S": "8",
        "EUREKA_TENANT_DEFAULT": "acme",
    }

    async def eureka(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "workers.cli", "replay", "--stream", *arguments),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        return process.returncode, out.decode(), error.decode()

    status, out, error = await eureka("line", "--run-id", "r1", "--json")
    assert (status, error) == (0, "")
    told = json.loads(out)
    assert (told["run_id"], told["refused"]) == ("r1", {})
    assert told["added"]["transcript"] == len((await of_run(settings, "live"))["transcripts"])
    status, out, error = await eureka("unheard", "--run-id", "r2")
    assert (status, out) == (1, "")
    assert error == "eureka: the stream unheard is not known on %s\n" % settings.topics.chunks
    assert (await eureka("line", "--from", "yesterday"))[0] == 2
