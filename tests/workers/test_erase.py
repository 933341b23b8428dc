"""Erasure on real Kafka and PostgreSQL: what is gone stays gone although the topic still has it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from storage.erasure import TABLES, Scope
from storage.replays import ReplayStore
from storage.sink import Commit, Store
from streams.errors import Fenced
from tests.servers.kafka import Broker
from tests.storage.samples import letter
from tests.workers.history import Hasher, Written, call, history_settings, key_of, live, rows, write
from workers.cli import app
from workers.erase import erase, look
from workers.kafka_admin import create_topics, wait_for_broker
from workers.pool import Analysis
from workers.replay import Asked, NotPossible, replay
from workers.settings import Settings

REWIND = "UPDATE partitions SET next_offset = 0"  # as where another session held the partition's offset back


@pytest.fixture
async def settings(kafka: Broker, database_url: str, topic_prefix: str) -> Settings:
    made = history_settings(kafka, topic_prefix, database_url, chunk_partitions=2)
    await create_topics(made)
    return made


async def counts(settings: Settings, tenant: str) -> dict[str, int]:
    return {
        table.name: (await rows(settings, f"SELECT count(*) FROM {table.name} WHERE tenant_id = $1", tenant))[
            0
        ][0]
        for table in TABLES
    }


async def test_a_tenant_is_erased_and_its_records_lead_to_nothing_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.erasure.BATCH_ROWS", 3)  # many batches
    bad = Written("line", b"x", [("ce_streamid", b"line"), ("ce_tenant", b"acme"), ("ce_specversion", b"0")])
    mine = call(key_of("line", "s1"), 1)
    other = call(key_of("line-2", "s2", "other"), 2)
    for one in other:
        one.partition = 1
    await write(settings, [*mine, mine[2], bad, *other])
    await live(settings)
    unread = call(key_of("fresh", "s9"), 3, end=False)
    await write(settings, unread)
    before = await counts(settings, "acme")
    assert {name for name, number in before.items() if not number} == {"gaps", "alerts", "replays"}
    theirs = await counts(settings, "other")

    planned = await look(settings, Scope("acme"))
    assert (planned.done, planned.rows) == (False, before)
    assert await counts(settings, "acme") == before
    done = await erase(settings, Scope("acme"))
    assert (done.done, done.rows) == (True, before)
    assert not any((await counts(settings, "acme")).values())
    assert await counts(settings, "other") == theirs

    await rows(settings, REWIND)
    await live(settings)
    assert not any((await counts(settings, "acme")).values()), "read again, nothing may come back"
    assert await counts(settings, "other") == theirs
    audit = await rows(settings, "SELECT scope, rows_deleted::text, finished_at IS NOT NULL FROM erasures")
    assert [(scope, json.loads(text), finished) for scope, text, finished in audit] == [
        ("tenant", before, True)
    ]
    everything = await rows(settings, "SELECT row_to_json(e)::text FROM erased e")
    assert everything
    assert not any(word in text for (text,) in everything for word in ("acme", "line", "fresh"))


async def test_what_is_sent_after_an_erasure_is_new_data(settings: Settings) -> None:
    key = key_of("line", "s1")
    records = call(key, 1, 12.0)
    await write(settings, records[:20])
    await live(settings)
    await erase(settings, Scope("acme", "line"))
    await write(settings, [*records[20:], *call(key_of("line", "s2"), 2)])
    await live(settings)
    found = await rows(
        settings,
        "SELECT session_id, min(start_sample) FROM transcripts GROUP BY session_id ORDER BY session_id",
    )
    assert [session for session, _ in found] == ["s1", "s2"]
    assert found[0][1] >= 20 * 4800, "of the session that went on only what came later"
    assert await rows(settings, "SELECT count(*) FROM dead_letters") == [(0,)]
    sessions = await rows(settings, "SELECT session_id, ended FROM sessions ORDER BY session_id")
    assert sessions == [("s1", True), ("s2", True)]

    await erase(settings, Scope("acme"))  # and once more
    await rows(settings, REWIND)
    await live(settings)
    assert not any((await counts(settings, "acme")).values())


async def test_a_live_worker_loses_its_partitions(settings: Settings) -> None:
    assert settings.database_url is not None
    await write(settings, call(key_of("line", "s1"), 1))
    await live(settings)
    cluster_id = await wait_for_broker(settings)
    store = await Store.open(settings.database_url, attempts=1)
    topic = settings.topics.chunks
    epoch = (await store.assign(topic, 0, cluster_id, 0, 100)).epoch
    await erase(settings, Scope("acme", "line"))
    stale = Commit(topic, 0, epoch, 0)
    with pytest.raises(Fenced):
        await store.commit(stale)
    epoch = (await store.assign(topic, 0, cluster_id, 0, 100)).epoch
    again = letter(3, tenant_id="acme", stream_id="line", session_id="s1").model_copy(update={"topic": topic})
    new = letter(90, tenant_id="acme", stream_id="line", session_id="s1").model_copy(update={"topic": topic})
    assert await store.commit(Commit(topic, 0, epoch, 5, dead_letters=(again, new))) == [new]
    assert await store.stream_home("acme", "line", topic, 0) == 0
    assert await store.stream_home("acme", "unheard", topic, 0) is None
    await store.close()


async def test_what_a_worker_has_in_flight_when_its_tenant_is_erased_comes_to_nothing(
    settings: Settings,
) -> None:
    class Gated(Hasher):
        async def analyse(self, *args: Any, **more: Any) -> Analysis:
            reached.set()
            await gate.wait()
            return await super().analyse(*args, **more)

    reached, gate = asyncio.Event(), asyncio.Event()
    await write(settings, call(key_of("line", "s1"), 1))
    working = asyncio.create_task(live(settings, Gated()))
    await asyncio.wait_for(reached.wait(), 30)
    await erase(settings, Scope("acme"))
    gate.set()
    with pytest.raises(AssertionError, match="no longer owns the partition"):
        await working
    assert not any((await counts(settings, "acme")).values())
    await live(settings)
    assert not any((await counts(settings, "acme")).values())


async def test_a_replay_under_way_stores_nothing_after_an_erasure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(settings, call(key_of("line", "s1"), 1))
    await live(settings)
    known = ReplayStore.known_windows

    async def slow(self: ReplayStore) -> set[Any]:
        await erase(settings, Scope("acme"))
        return await known(self)

    monkeypatch.setattr(ReplayStore, "known_windows", slow)
    with pytest.raises(Fenced, match="was erased"):
        await replay(settings, Asked("acme", "line"), "r1")
    assert not any((await counts(settings, "acme")).values())


async def test_erased_records_are_not_replayed(settings: Settings) -> None:
    await write(settings, call(key_of("line", "s1"), 1))
    await live(settings)
    await erase(settings, Scope("acme", "line"))
    await write(settings, call(key_of("line", "s2"), 2))
    await live(settings)
    with pytest.raises(NotPossible, match="was erased"):
        await replay(settings, Asked("acme", "line"), "r1")


async def test_fences_go_when_the_records_are_gone(settings: Settings) -> None:
    await write(settings, call(key_of("line", "s1"), 1))
    await live(settings)
    await erase(settings, Scope("acme", "line"))
    assert await rows(settings, 'SELECT "partition", home FROM erased') == [(0, True)]
    await rows(settings, "UPDATE erased SET end_offset = 0")
    await erase(settings, Scope("nobody"))
    assert await rows(settings, 'SELECT "partition", home FROM erased') == [(0, False)]


def test_the_command_counts_first_and_says_what_stays(
    kafka: Broker, database_url: str, topic_prefix: str
) -> None:
    settings = history_settings(kafka, topic_prefix, database_url)
    asyncio.run(create_topics(settings))
    environment = {
        "EUREKA_BROKERS": kafka.address,
        "EUREKA_DATABASE_URL": database_url,
        "EUREKA_TOPIC_PREFIX": topic_prefix,
    }
    dry = CliRunner().invoke(app, ["erase", "--tenant", "acme"], env=environment)
    assert dry.exit_code == 0, dry.output
    assert "would be deleted of this tenant" in dry.stdout
    assert "nothing was deleted; --yes does it" in dry.stdout
    if kafka.is_kafka:
        assert "about 7 days after each was written (retention.ms is 604800000)" in dry.stdout
    done = CliRunner().invoke(app, ["erase", "--tenant", "acme", "--yes", "--json"], env=environment)
    told = json.loads(done.stdout)
    assert (told["done"], set(told["rows"].values())) == (True, {0})
    assert [one["topic"] for one in told["stays"]] == [settings.topics.chunks, *settings.topics.outputs]
