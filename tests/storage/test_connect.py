"""A database that is away, comes back, or was never there: Unavailable, within bounds, without secrets."""

import asyncio
import logging
import socket

import asyncpg
import pytest
from pydantic import SecretStr

from storage import connect
from storage.sink import Store
from streams.errors import NotAllowed
from streams.messages import Unavailable
from tests.storage.samples import KEY, TOPIC, commit, state, transcript, until_blocked

SECRET = "hunter2"
KILL_OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("postgresql://u:p@one:5432,two:5433/calls", "one:5432,two:5433, database calls"),
        ("postgres://u:a%40b@one,two/calls", "one,two, database calls"),
        ("postgresql+asyncpg://one:1?user=a@b", "one:1, database by default"),
        ("postgresql:///calls?host=/run/postgresql", "/run/postgresql, database calls"),
        ("postgresql://", "the local socket, database by default"),
    ],
)
def test_an_address_is_of_hosts_and_database_alone(url: str, where: str) -> None:
    assert connect.address(url) == "PostgreSQL at " + where


async def test_connections_killed_while_idle(store: Store, sql: asyncpg.Connection) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    work = commit(epoch, 10, sessions=(state(),), transcripts=(transcript(0, 100),))
    await sql.execute(KILL_OTHERS)
    for _ in range(3):  # at most one failure per pooled connection
        try:
            await store.commit(work)
            break
        except Unavailable:
            continue
    assert (await store.counts())["transcripts"] == 1


async def test_connection_killed_in_the_middle_of_a_commit(store: Store, sql: asyncpg.Connection) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    work = commit(epoch, 10, sessions=(state(),), transcripts=(transcript(0, 100),))
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE transcripts")
    running = asyncio.create_task(store.commit(work))
    await until_blocked(sql)
    await sql.execute(KILL_OTHERS)
    with pytest.raises(Unavailable, match=r"57P01|ConnectionDoesNotExist|AdminShutdown"):
        await running
    await transaction.rollback()
    assert await store.load_session(KEY) is None
    await store.commit(work)
    assert (await store.counts())["transcripts"] == 1


async def test_a_held_row_is_waited_for_only_so_long(
    store: Store, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    monkeypatch.setitem(connect.SERVER_SETTINGS, "lock_timeout", "50")
    hasty = await Store.open(database_url, attempts=1)
    async with sql.transaction():
        await sql.execute("SELECT * FROM partitions FOR UPDATE")
        with pytest.raises(Unavailable, match="55P03"):
            await hasty.commit(commit(epoch))
    await hasty.commit(commit(epoch))
    await hasty.close()


async def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        url = SecretStr(f"postgresql://eureka:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/calls")
        with caplog.at_level(logging.WARNING), pytest.raises(Unavailable) as caught:
            await Store.open(url, attempts=3, first_pause_s=0.001)
    assert "127.0.0.1" in str(caught.value)
    assert "database calls" in str(caught.value)
    assert len(caplog.records) == 2
    assert SECRET not in caplog.text + repr(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://eureka:{SECRET}@127.0.0.1/calls",
        f"eureka:{SECRET}@127.0.0.1",
        f"postgresql://eureka:{SECRET}/@127.0.0.1:x/calls",
        f"postgresql://eureka:{SECRET}@127.0.0.1:99999/calls",
        f"postgresql://eureka:{SECRET}@127.0.0.1:1/calls?sslmode=perhaps",
        f"postgresql://eureka:{SECRET}@name.invalid/calls",
    ],
)
async def test_a_bad_url_is_unavailable(url: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await Store.open(url, attempts=2, first_pause_s=0.001)
    assert SECRET not in repr(caught.value)


async def test_a_missing_database_is_named(database_url: str) -> None:
    url = database_url.replace("/test_", "/nowhere_")
    with pytest.raises(Unavailable, match="nowhere_"):
        await Store.open(url, attempts=1)


async def test_the_engine_shows_no_secret() -> None:
    engine = connect.make_engine(f"postgresql+asyncpg://eureka:{SECRET}@127.0.0.1/calls", 1)
    assert SECRET not in repr(engine) + str(engine.url)
    await engine.dispose()


def test_a_right_that_is_missing_is_no_defect_and_says_which() -> None:
    refused = asyncpg.InsufficientPrivilegeError()
    refused.message = "permission denied for table dead_letters"
    meant = connect._meaning("somewhere", refused, lost=False)
    assert isinstance(meant, NotAllowed)
    assert "permission denied for table dead_letters" in str(meant)
