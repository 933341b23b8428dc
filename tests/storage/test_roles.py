"""A worker works under the role it is granted, and that role can do nothing else."""

import asyncpg
import pytest

from storage.database import opened
from storage.migrate import check
from storage.queries import OPERATORS
from storage.roles import WORKER, grant_worker, worker_grants
from storage.sink import Store
from storage.tables import METADATA, VERSION_TABLE
from streams.messages import Unavailable
from tests.storage.samples import KEY, TOPIC, commit, state
from tests.storage.test_commit import FULL, ROWS

ROLE = 'odd "worker"'
QUOTED = '"odd ""worker"""'


async def as_role(sql: asyncpg.Connection, url: str) -> str:
    """The URL of this database for the role, which is made anew."""
    if await sql.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", ROLE) is None:
        await sql.execute(f"CREATE ROLE {QUOTED} LOGIN")
    async with opened(url) as database, database.transaction() as connection:
        await grant_worker(connection, ROLE)
    return url.replace("postgresql://eureka@", "postgresql://odd%20%22worker%22@")


async def test_a_store_does_all_its_work_under_the_role(sql: asyncpg.Connection, database_url: str) -> None:
    url = await as_role(sql, database_url)
    store = await Store.open(url, attempts=1)
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    assert await store.bind_stream("acme", "line", TOPIC, 0) == 0
    assert await store.stream_home("acme", "line", TOPIC, 0) == 0
    assert await store.stream_home("acme", "unheard", TOPIC, 0) is None
    new = await store.commit(commit(epoch, 10, **FULL))
    await store.commit(commit(epoch, 12, sessions=(state(12),)))
    await store.mark_published(new[:3])
    async with store.unsent(100, 0) as messages:
        assert len(messages) == len(new) - 3
    assert await store.load_session(KEY) is not None
    assert await store.talk_intervals(KEY, 0) != []
    await store.assign(TOPIC, 0, "another cluster", 0, 5)  # writes lost_ranges
    await store.close()
    assert {name: await sql.fetchval(f"SELECT count(*) FROM {name}") for name in ROWS} == ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (x integer)",
        "DROP TABLE transcripts",
        "ALTER TABLE transcripts ADD COLUMN x integer",
        "CREATE INDEX mine ON transcripts (text)",
        "TRUNCATE transcripts",
        "CREATE SCHEMA mine",
        "DELETE FROM transcripts",
        "DELETE FROM sessions",
        "UPDATE transcripts SET text = ''",
        "UPDATE dead_letters SET reason = ''",
        "UPDATE eureka_schema_version SET version_num = '1'",
        "INSERT INTO erasures (scope) VALUES ('tenant')",
        "DELETE FROM erased",
        "SELECT * FROM replays",
    ],
)
async def test_the_role_may_do_nothing_else(
    sql: asyncpg.Connection, database_url: str, statement: str
) -> None:
    worker = await asyncpg.connect(await as_role(sql, database_url))
    try:
        assert await worker.fetchval("SELECT current_user") == ROLE
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await worker.execute(statement)
    finally:
        await worker.close()


async def test_granting_takes_away_what_was_there_and_says_what_is_wrong(
    sql: asyncpg.Connection, database_url: str
) -> None:
    await as_role(sql, database_url)
    await sql.execute(f"GRANT DELETE ON transcripts TO {QUOTED}")
    await as_role(sql, database_url)
    assert not await sql.fetchval("SELECT has_table_privilege($1, 'transcripts', 'DELETE')", ROLE)
    async with opened(database_url) as database:
        with pytest.raises(Unavailable, match="CREATE ROLE"):
            async with database.transaction() as connection:
                await grant_worker(connection, "nobody-there")
        with pytest.raises(Unavailable, match="superuser"):
            async with database.transaction() as connection:
                await grant_worker(connection, "eureka")
    assert await check(database_url) == []


def test_every_table_is_a_workers_or_an_operators() -> None:
    granted = {table for tables in WORKER.values() for table in tables} - {VERSION_TABLE}
    assert set(METADATA.tables) - granted == set(OPERATORS)


def test_a_name_stays_a_name() -> None:
    statements = worker_grants('x"; DROP TABLE y; --')
    assert all(s.endswith(' "x""; DROP TABLE y; --"') for s in statements)
    for bad in ("", "x\x00", "é" * 32):
        with pytest.raises(ValueError):
            worker_grants(bad)
