"""What is too old goes, in bounded bites; what is unsent, alive or still to be read stays."""

from typing import Any

import asyncpg
import pytest

from storage import retention
from storage.database import opened
from storage.sink import DuplicateRow, GapRow, Store
from streams.messages import Origin
from tests.storage.samples import (
    KEY,
    TOPIC,
    alert,
    caption,
    commit,
    event,
    letter,
    position,
    state,
    transcript,
)

OLD = "UPDATE {} SET created_at = now() - interval '40 days'"
RESULTS = ("transcripts", "captions", "events", "alerts", "dead_letters")


async def fill(store: Store, next_offset: int = 100, **session: Any) -> None:
    """Ten of each, published, of a session that was read up to offset 15."""
    epoch = (await store.assign(TOPIC, 0, "k", 0, 1000)).epoch
    spans = [(n * 100, n * 100 + 100) for n in range(10)]
    full = commit(
        epoch,
        next_offset,
        sessions=(state(ended=True, **session),),
        positions=(position(32000),),
        transcripts=tuple(transcript(*s) for s in spans),
        captions=tuple(caption(*s) for s in spans),
        events=tuple(event(*s) for s in spans),
        alerts=tuple(alert(*s) for s in spans),
        dead_letters=tuple(letter(n) for n in range(10)),
        gaps=(GapRow(KEY, 4, 6, 32000, 48000),),
        duplicates=(DuplicateRow(Origin(TOPIC, 0, 9), KEY, 2),),
    )
    await store.mark_published(await store.commit(full))
    await store.bind_stream(KEY.tenant_id, KEY.stream_id, TOPIC, 0)


async def clean(url: str, kind: str, days: float = 30, limit: int = 1000) -> dict[str, int]:
    async with opened(url) as database, database.transaction() as connection:
        return await retention.delete_batch(connection, kind, days, limit)


@pytest.mark.parametrize("kind", RESULTS)
async def test_old_and_sent_rows_go_in_batches(
    store: Store, sql: asyncpg.Connection, database_url: str, kind: str
) -> None:
    await fill(store)
    assert await clean(database_url, kind) == {kind: 0}, "none is old"
    await sql.execute(OLD.format(kind))
    await sql.execute(f"UPDATE {kind} SET published_at = NULL WHERE id = (SELECT max(id) FROM {kind})")
    await sql.execute(f"UPDATE {kind} SET created_at = now() WHERE id = (SELECT min(id) FROM {kind})")
    assert [await clean(database_url, kind, limit=5) for _ in range(3)] == [{kind: 5}, {kind: 3}, {kind: 0}]
    assert await sql.fetchval(f"SELECT count(*) FROM {kind}") == 2, "the unsent one and the young one"
    for other in set(RESULTS) - {kind}:
        assert await sql.fetchval(f"SELECT count(*) FROM {other}") == 10


async def test_letters_of_records_that_a_restart_reads_again_stay(
    store: Store, sql: asyncpg.Connection, database_url: str
) -> None:
    await fill(store, next_offset=4)
    await sql.execute(OLD.format("dead_letters"))
    assert await clean(database_url, "dead_letters") == {"dead_letters": 4}
    await sql.execute("UPDATE partitions SET generation = generation + 1")
    assert await clean(database_url, "dead_letters") == {"dead_letters": 6}, "those offsets mean nothing now"


async def test_a_dead_session_goes_whole_and_a_live_one_stays(
    store: Store, sql: asyncpg.Connection, database_url: str
) -> None:
    await fill(store)
    for table in ("gaps", "duplicates", "streams"):
        await sql.execute(OLD.format(table))
    nothing = {"gaps": 0, "progress": 0, "sessions": 0, "duplicates": 1, "streams": 0}
    assert await clean(database_url, "sessions") == nothing, (
        "stored of it just now; its duplicates are history"
    )
    await sql.execute("UPDATE sessions SET updated_at = now() - interval '40 days'")
    await sql.execute("UPDATE partitions SET next_offset = 15")
    nothing["duplicates"] = 0
    assert await clean(database_url, "sessions") == nothing, "offset 15 of it would be read again"
    await sql.execute("UPDATE partitions SET next_offset = 16")
    gone = {"gaps": 1, "progress": 1, "sessions": 1, "duplicates": 0, "streams": 1}
    assert await clean(database_url, "sessions") == gone
    assert await store.load_session(KEY) is None
    assert await sql.fetchval("SELECT count(*) FROM transcripts") == 10, "results have an age of their own"
