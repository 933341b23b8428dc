"""A real PostgreSQL for the whole test session, and a fresh database per test, copied from a migrated template."""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from storage.embedded import embedded_postgres
from storage.migrate import upgrade

TEMPLATE = "eureka_template"
MEMORY_BYTES = 2 << 30
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the server's maintenance database."""
    with folder_for_postgres() as folder, embedded_postgres(folder, durable=False) as url:
        run_apart(execute(url, f"CREATE DATABASE {TEMPLATE}"))
        run_apart(upgrade(named(url, TEMPLATE)))
        yield url


@pytest.fixture
def database_url(postgres_server: str) -> Iterator[str]:
    """URL of a database of this test's own, with the schema and no rows."""
    yield from _database(postgres_server, TEMPLATE)


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """URL of a database of this test's own with nothing in it."""
    yield from _database(postgres_server, "template0")


@contextlib.contextmanager
def folder_for_postgres() -> Iterator[Path]:
    """A folder that the OS user of the server can enter, which pytest's own are not when root runs the tests.

    Not named after us: another process of the suite may just be looking for what Eureka has left in memory.
    """
    with tempfile.TemporaryDirectory(prefix="test-postgres-", dir=_memory_folder()) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def named(url: str, database: str) -> str:
    """The same server, another database."""
    server, _, options = url.partition("?")
    return f"{server.rpartition('/')[0]}/{database}?{options}"


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run in a thread and loop of its own: the test's loop, if there is one, stays untouched."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def _memory_folder() -> str | None:
    """In memory a database is copied in 30 ms, on a busy disk in 500; containers often have only 64 MiB there."""
    memory = "/dev/shm"
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_BYTES
    return memory if roomy else None


def _database(server: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    run_apart(execute(server, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield named(server, name)
    run_apart(execute(server, f"DROP DATABASE {name} WITH (FORCE)"))
