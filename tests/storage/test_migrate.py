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
