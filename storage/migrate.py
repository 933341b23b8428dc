"""Brings a database to the schema that this version of the code needs, and says what is wrong with one.

In: a database URL. It needs the rights of the database's owner for `upgrade`, of a reader for `check`.
Invariant: an upgrade is one transaction under a lock, so two at once are one after the other and a failed one
changes nothing.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage import connect
from storage.queries import counts
from storage.tables import VERSION_TABLE
from streams.messages import Unavailable

MIN_SERVER_VERSION = 150_000
UPGRADE_LOCK = 0x6575_7265_6B61  # "eureka" in ASCII


async def upgrade(url: SecretStr | str, *, attempts: int = 1, first_pause_s: float = 0.2) -> None:
    """Apply the pending migrations. Raises Unavailable when the server is out of reach or older than 15."""
    where = connect.address(url)
    engine = connect.make_engine(url, pool_size=1)

    async def attempt() -> None:
        with connect.translated(where):
            async with engine.begin() as connection:
                if await server_version(connection) < MIN_SERVER_VERSION:
                    raise Unavailable(f"{where}: PostgreSQL 15 or later is needed")
                await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
                await connection.run_sync(upgrade_to, "head")

    try:
        await connect.retry(attempt, attempts=attempts, first_pause_s=first_pause_s)
    finally:
        await engine.dispose()


def upgrade_to(connection: Connection, revision: str) -> None:
    """Apply the migrations up to `revision` in the transaction of `connection`."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def check(url: SecretStr | str) -> list[str]:
    """What is wrong with the database, in words; empty when all is well. Raises Unavailable when it is out of reach."""
    engine = connect.make_engine(url, pool_size=1)
    try:
        with connect.translated(connect.address(url)):
            async with engine.connect() as connection:
                return await _problems(connection)
    finally:
        await engine.dispose()


async def schema_problem(engine: AsyncEngine) -> str | None:
    """Why this code cannot work on the database behind `engine`, or None."""
    async with engine.connect() as connection:
        if await server_version(connection) < MIN_SERVER_VERSION:
            return "PostgreSQL 15 or later is needed"
        found = await _revision(connection)
    needed = head()
    if found == needed:
        return None
    return f"the schema is at version {found or 'none'}, this program needs {needed}: run `eureka db upgrade`"


async def server_version(connection: AsyncConnection) -> int:
    """For example 180006."""
    return int(await connection.scalar(text("SELECT current_setting('server_version_num')")) or 0)


def head() -> str:
    """The newest migration that this code ships."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:
        raise RuntimeError("no migrations are packaged")
    return found


async def _problems(connection: AsyncConnection) -> list[str]:
    problems = []
    if await server_version(connection) < MIN_SERVER_VERSION:
        problems.append("PostgreSQL is older than version 15")
    if await connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'btree_gist'")) is None:
        problems.append(
            "the extension btree_gist is missing: run `eureka db upgrade` as the database's owner"
        )
    found = await _revision(connection)
    if found != head():
        problems.append(
            f"the schema is at version {found or 'none'}, {head()} is needed: run `eureka db upgrade`"
        )
        return problems
    rows = await counts(connection)
    problems += [
        f"{name.removesuffix('_unpublished')}: {number} rows wait for their topic (a running worker sends them)"
        for name, number in rows.items()
        if name.endswith("_unpublished") and number
    ]
    if rows["lost_ranges"]:
        problems.append(f"lost_ranges: {rows['lost_ranges']} times Kafka lost records before they were read")
    return problems


async def _revision(connection: AsyncConnection) -> str | None:
    table = await connection.scalar(text("SELECT to_regclass(:name)"), {"name": VERSION_TABLE})
    if table is None:
        return None
    found: str | None = await connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("storage") / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
