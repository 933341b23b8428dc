"""Dead letters that are put back, on real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.errors import Unavailable
from tests.servers.kafka import Broker
from tests.workers.history import CHUNK, Hasher, Written, call, history_settings, key_of, live, rows, write
from workers.cli import app
from workers.deadletters import requeue
from workers.kafka_admin import create_topics
from workers.settings import Settings

LETTERS = "SELECT id FROM dead_letters ORDER BY id"
TEXTS = """SELECT session_id, start_sample, end_sample, text FROM transcripts
    WHERE run_id = 'live' AND session_id = $1 ORDER BY start_sample"""


@pytest.fixture
async def settings(kafka: Broker, database_url: str, topic_prefix: str) -> Settings:
    made = history_settings(kafka, topic_prefix, database_url)
    await create_topics(made)
    return made


async def ids(settings: Settings) -> list[int]:
    return [number for (number,) in await rows(settings, LETTERS)]


async def test_a_whole_session_that_was_too_large_goes_back_as_it_was(settings: Settings) -> None:
    key = key_of("line", "s1")
    narrow = settings.model_copy(update={"max_chunk_bytes": CHUNK})  # half of what a chunk has
    await write(settings, call(key, 1))
    await live(narrow)
    letters = await ids(settings)
    assert await rows(settings, "SELECT DISTINCT reason FROM dead_letters") == [("too_large",)]
    assert await rows(settings, TEXTS, "s1") == []
    refused = await requeue(narrow, letters[:1], actor="ann")
    assert refused[0].outcome == "refused"
    assert refused[0].detail.startswith("would be refused again: too_large")

    done = await requeue(settings, letters, actor="ann")
    assert {(one.outcome, one.detail, one.session_id) for one in done} == {("requeued", "as it was", "s1")}
    await live(settings)
    again = await requeue(settings, letters, actor="bob")
    assert {one.outcome for one in again} == {"skipped"}
    assert "by ann" in again[0].detail

    await write(settings, call(key_of("undisturbed", "s2"), 1))
    await live(settings)
    want = [row[1:] for row in await rows(settings, TEXTS, "s2")]
    assert [row[1:] for row in await rows(settings, TEXTS, "s1")] == want != []


async def test_what_has_had_its_turn_goes_into_a_session_of_its_own(settings: Settings) -> None:
    first, again = call(key_of("line", "0"), 1), call(key_of("line", "0"), 2)
    for n, one in enumerate(again):  # a producer without a session id that started again
        one.headers = [(k, b"again-%d" % n if k == "ce_id" else v) for k, v in one.headers]
    await write(settings, first[:-1] + again[:-1])
    await live(settings)
    assert await rows(settings, "SELECT DISTINCT reason FROM dead_letters") == [("sequence_reset",)]
    letters = await ids(settings)
    done = await requeue(settings, letters, actor="ann")
    own = "0.r%d" % letters[0]
    assert {(one.outcome, one.session_id) for one in done} == {("requeued", own)}
    await live(settings)
    await write(settings, call(key_of("undisturbed", "s2"), 2))
    await live(settings)
    want = [row[1:] for row in await rows(settings, TEXTS, "s2")]
    assert [row[1:] for row in await rows(settings, TEXTS, own)] == want != []
    assert await rows(settings, "SELECT ended FROM sessions WHERE session_id = $1", own) == [(True,)]
    assert await ids(settings) == letters, "nothing was refused again"


async def test_a_crash_between_sending_and_marking_adds_no_row(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = call(key_of("line", "s1"), 1)
    late = records.pop(5)
    await write(settings, records)
    await live(settings)
    await write(settings, [late])  # after the end of its session
    await live(settings)
    letters = await ids(settings)
    assert await rows(settings, "SELECT reason FROM dead_letters") == [("late",)]

    async def dies(*_: object) -> None:
        raise Unavailable("killed before the mark")

    with monkeypatch.context() as patch:
        patch.setattr("storage.deadletters.done", dies)
        with pytest.raises(Unavailable, match="killed"):
            await requeue(settings, letters, actor="ann")
    await live(settings)
    own = "s1.r%d" % letters[0]
    before = await rows(settings, TEXTS, own)
    done = await requeue(settings, letters, actor="bob")
    assert [(one.outcome, one.session_id) for one in done] == [("requeued", own)]
    await live(settings)
    assert await rows(settings, TEXTS, own) == before
    assert await rows(settings, "SELECT count(*) FROM duplicates WHERE session_id = $1", own) == [(2,)]
    assert await rows(settings, "SELECT attempt, actor, done_at IS NOT NULL FROM requeues") == [
        (1, "ann", True)
    ]
    await requeue(settings, letters, actor="cid", again=True)
    assert await rows(settings, "SELECT max(attempt), count(*) FROM requeues") == [(2, 2)]


async def test_two_at_once_send_it_once(settings: Settings) -> None:
    records = call(key_of("line", "s1"), 1)
    late = records.pop(5)
    await write(settings, records)
    await live(settings)
    await write(settings, [late])
    await live(settings)
    letters = await ids(settings)
    both = await asyncio.gather(*(requeue(settings, letters, actor=name) for name in ("ann", "bob")))
    assert sorted(one.outcome for done in both for one in done) == ["requeued", "skipped"]
    await live(settings)
    assert await rows(settings, "SELECT count(*) FROM duplicates") == [(0,)]


async def test_a_record_that_is_gone_or_another_is_not_put_back(settings: Settings) -> None:
    await write(settings, [Written("line", b"abc", [("ce_specversion", b"0.3")])])
    await live(settings)
    (number,) = await ids(settings)
    await rows(settings, "UPDATE dead_letters SET payload_b64 = 'AAAA'")
    (done,) = await requeue(settings, [number], actor="ann")
    assert (done.outcome, "another record's now" in done.detail) == ("refused", True)
    await rows(settings, "UPDATE partitions SET generation = generation + 1")
    (done,) = await requeue(settings, [number], actor="ann")
    assert (done.outcome, "made anew" in done.detail) == ("refused", True)
    await rows(settings, 'UPDATE dead_letters SET generation = 1, "offset" = 10000')
    (done,) = await requeue(settings, [number], actor="ann")
    assert (done.outcome, "not there any more" in done.detail) == ("refused", True)
    assert "the letter has its 3 bytes" in done.detail
    (done,) = await requeue(settings, [number + 1], actor="ann")
    assert done.detail == "no such dead letter"


async def test_poisoned_windows_are_analysed_again_into_a_run_of_their_own(settings: Settings) -> None:
    scene = "SELECT start_sample, end_sample, text FROM captions WHERE session_id = 's2'"
    await write(settings, call(key_of("line", "s1"), 1, 12.0))
    await write(settings, call(key_of("line", "s2"), 1, 12.0))
    await live(settings)
    spoken, seen = await rows(settings, TEXTS, "s2"), await rows(settings, scene)
    poisoned = {("speech", spoken[0][1]), ("scene", seen[0][0])}
    await write(settings, call(key_of("line", "s3"), 1, 12.0))
    await live(settings, Hasher(poisoned))
    found = "SELECT reason, session_id, track FROM dead_letters ORDER BY track"
    assert await rows(settings, found) == [("poison", "s3", "scene"), ("poison", "s3", "speech")]
    assert len(spoken) > 1, "there are windows beside"
    before = await rows(settings, "SELECT topic, epoch, next_offset FROM partitions")
    letters = await ids(settings)
    await rows(settings, "UPDATE dead_letters SET start_sample = start_sample + 1 WHERE track = 'scene'")
    done = {one.outcome: one for one in await requeue(settings, letters, actor="ann")}
    assert done.keys() == {"analysed", "refused"}
    assert "do not give this window" in done["refused"].detail
    await rows(settings, "UPDATE dead_letters SET start_sample = start_sample - 1 WHERE track = 'scene'")
    again = await requeue(settings, letters, actor="bob")
    assert sorted(one.outcome for one in again) == ["analysed", "skipped"]
    result = """SELECT session_id, run_id, start_sample, end_sample, text, published_at IS NOT NULL
        FROM %s WHERE run_id <> 'live'"""
    assert await rows(settings, result % "transcripts") == [("s3", "requeue-1", *spoken[0][1:], True)]
    assert await rows(settings, result % "captions") == [("s3", "requeue-1", *seen[0], True)]
    events = "SELECT DISTINCT event_type FROM events WHERE run_id <> 'live' ORDER BY event_type"
    assert await rows(settings, events) == [("loudness",), ("music",), ("talk_speed",)], "none of the dialog"
    assert await rows(settings, "SELECT topic, epoch, next_offset FROM partitions") == before


def test_list_show_and_requeue_from_the_command_line(
    kafka: Broker, database_url: str, topic_prefix: str, tmp_path: Any
) -> None:
    settings = history_settings(kafka, topic_prefix, database_url)
    asyncio.run(create_topics(settings))
    asyncio.run(write(settings, [Written("line", b"canary", [("ce_specversion", b"0.3")])]))
    asyncio.run(live(settings))
    environment = {
        "EUREKA_BROKERS": kafka.address,
        "EUREKA_DATABASE_URL": database_url,
        "EUREKA_TOPIC_PREFIX": topic_prefix,
    } | {"EUREKA_" + name.upper(): json.dumps(value) for name, value in kafka.settings.items()}

    def eureka(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["deadletters", *arguments], env=environment)

    listed = [
        json.loads(line)
        for line in eureka("list", "--json", "--reason", "unsupported_version").stdout.splitlines()
    ]
    number = listed[0]["id"]
    assert (listed[0]["reason"], listed[0]["payload_size_bytes"]) == ("unsupported_version", 6)
    assert eureka("list", "--tenant", "other").stdout == ""
    assert eureka("list", "--since", "2999-01-01").stdout == ""
    assert eureka("list", "--since", "yesterday").exit_code == 2
    file = tmp_path / "payload"
    shown = eureka("show", str(number), "--payload", str(file))
    assert file.read_bytes() == b"canary"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "canary" not in shown.stdout + eureka("list").stdout
    assert "payload_kept_bytes    6" in shown.stdout
    assert eureka("show", str(number), "--payload", str(file)).exit_code == 1, "it overwrites nothing"
    assert eureka("show", "999").exit_code == 1
    back = eureka("requeue", "--reason", "unsupported_version", "--json")
    assert (json.loads(back.stdout)["outcome"], back.exit_code) == ("refused", 1)
    assert eureka("requeue").exit_code == 2
    assert eureka("requeue", "--reason", "poison").exit_code == 0
