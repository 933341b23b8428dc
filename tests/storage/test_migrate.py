"""Migrations on an empty database, and the report on one that is not right."""

import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from storage import connect, migrate
from storage.rows import TABLE_OF
from storage.sink import Store
from storage.tables import METADATA, VERSION_TABLE
from streams.messages import DeadLetter, Unavailable
from tests.storage.samples import commit, transcript
from tests.storage.test_commit import FULL

TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


async def test_upgrade_makes_what_the_code_expects(empty_database_url: str) -> None:
    assert "eureka db upgrade" in " ".join(await migrate.check(empty_database_url))
    await migrate.upgrade(empty_database_url)
    assert await migrate.check(empty_database_url) == []
    await migrate.upgrade(empty_database_url)  # nothing left to do

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, METADATA))

    engine = connect.make_engine(empty_database_url, 1)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_an_upgrade_keeps_every_row(database_url: str, empty_database_url: str) -> None:
    """Rows of the first schema, made by the first schema's own columns, are the same after the upgrade."""
    engine = connect.make_engine(empty_database_url, 1)
    async with engine.begin() as connection:
        await connection.run_sync(migrate.upgrade_to, "0001")
    await engine.dispose()
    store = await Store.open(database_url, attempts=1)  # of the newest schema: writes rows to be copied
    epoch = (await store.assign("audio.chunks", 0, "k1", 0, 0)).epoch
    await store.bind_stream("acme", "line-7", "audio.chunks", 0)
    await store.commit(commit(epoch, 10, **FULL))
    await store.assign("audio.chunks", 0, "k2", 0, 0)
    await store.close()
    source, target = await asyncpg.connect(database_url), await asyncpg.connect(empty_database_url)
    first = [r["tablename"] for r in await target.fetch(TABLES) if r["tablename"] != VERSION_TABLE]
    for table in first:
        rows = [tuple(row) for row in await source.fetch(f"SELECT * FROM {table}")]
        assert rows, table
        await target.copy_records_to_table(table, records=rows)
    before = {table: await target.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in first}
    await migrate.upgrade(empty_database_url)
    assert {table: await target.fetch(f"SELECT * FROM {table} ORDER BY 1, 2") for table in first} == before
    assert len(first) == 12
    assert len(await target.fetch(TABLES)) == 1 + 12 + 4
    await source.close()
    await target.close()


async def test_two_upgrades_at_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(empty_database_url) for _ in range(2)))
    assert await migrate.check(empty_database_url) == []


async def test_open_without_schema_says_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(Unavailable, match="eureka db upgrade"):
        await Store.open(empty_database_url, attempts=1)


async def test_check_reports_unsent_rows_and_losses(
    store: Store, sql: asyncpg.Connection, database_url: str
) -> None:
    assignment = await store.assign("audio.chunks", 0, "k1", 0, 0)
    await store.commit(commit(assignment.epoch, 5, transcripts=(transcript(0, 100),)))
    await store.assign("audio.chunks", 0, "k2", 0, 0)
    problems = await migrate.check(database_url)
    assert [problem.partition(":")[0] for problem in problems] == ["transcripts", "lost_ranges"]


def test_result_tables_have_every_field_of_their_message() -> None:
    for kind, table in TABLE_OF.items():
        extra = {"id", "created_at", "published_at"} | ({"generation"} if kind is DeadLetter else {"ce_id"})
        assert {column.name for column in table.columns} == set(kind.model_fields) | extra
