"""PostgreSQL over TLS as a role that owns nothing: the store works, and whoever is not who he says is refused.

The server is the operating system's, with ssl=on and hostssl (tests/servers/postgres_tls.py), the role that of
`eureka db roles`.
"""

import re
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from storage import migrate
from storage.sink import Store
from streams.messages import Unavailable
from tests.security.clients import eureka
from tests.servers.postgres import execute
from tests.servers.postgres_tls import SecurePostgres
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


async def test_the_store_does_all_its_work_without_any_right_to_the_schema(
    secure_postgres: SecurePostgres,
) -> None:
    store = await Store.open(SecretStr(secure_postgres.url()), attempts=1)
    try:
        epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
        assert await store.bind_stream(KEY.tenant_id, KEY.stream_id, TOPIC, 0) == 0
        work = commit(
            epoch,
            10,
            sessions=(state(),),
            positions=(position(100),),
            transcripts=(transcript(0, 100),),
            captions=(caption(0, 100),),
            events=(event(0, 100),),
            alerts=(alert(0, 100),),
            dead_letters=(letter(3),),
        )
        written = await store.commit(work)
        assert len(written) == 5
        await store.mark_published(written[:2])
        async with store.unsent(10, 0.0) as unsent:
            assert len(unsent) == 3
        assert await store.load_session(KEY) is not None
        assert await store.stream_home(KEY.tenant_id, KEY.stream_id, TOPIC, 0) == 0
        assert await store.talk_intervals(KEY, 0) is not None
    finally:
        await store.close()
    problems = await migrate.check(SecretStr(secure_postgres.url()))
    assert [p for p in problems if "wait for their topic" not in p] == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (a int)",
        "DROP TABLE transcripts",
        "ALTER TABLE transcripts ADD COLUMN a int",
        "TRUNCATE transcripts",
        "CREATE EXTENSION pg_trgm",
        "UPDATE eureka_schema_version SET version_num = 'x'",
        "CREATE SCHEMA mine",
        "CREATE ROLE friend",
        "COPY transcripts TO PROGRAM 'cat'",
    ],
)
async def test_the_role_of_the_worker_can_change_no_schema(
    secure_postgres: SecurePostgres, statement: str
) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.PostgresError)) as refused:
        await execute(secure_postgres.url(), statement)
    assert refused.value.sqlstate == "42501"


def test_doctor_finds_the_database_over_tls(secure_postgres: SecurePostgres) -> None:
    done = eureka({"database_url": secure_postgres.url(), "brokers": "127.0.0.1:1"}, "doctor")
    (line,) = [line for line in done.stdout.splitlines() if line.split()[1] == "database"]
    assert "schema up to date" in line or "wait for their topic" in line
    assert secure_postgres.password not in done.stdout + done.stderr


WRONG = {
    "host": ({"host": "localhost"}, "not valid for 'localhost'"),
    "password": ({"password": "wrong-secret-word"}, "password authentication failed"),
    "no TLS": ({"sslmode": "disable"}, "no pg_hba.conf entry .*, no encryption"),
    "user": ({"user": "eureka"}, 'no pg_hba.conf entry .*, user "eureka", .*SSL encryption'),
}


@pytest.mark.parametrize("name", [*WRONG, "authority", "no file of the authority"])
async def test_who_is_not_who_he_says_is_refused_with_the_reason(
    secure_postgres: SecurePostgres, name: str, tmp_path: Path
) -> None:
    match name:
        case "authority":
            url, reason = (
                secure_postgres.url(authority=secure_postgres.other_authority),
                "certificate verify failed",
            )
        case "no file of the authority":
            url, reason = (
                secure_postgres.url(authority=tmp_path / "absent.crt"),
                "a file of certificates that the URL names, is not there",
            )
        case _:
            changes, reason = WRONG[name]
            url = secure_postgres.url(**changes)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=reason) as refused:
        await Store.open(SecretStr(url), attempts=1)
    said = repr(refused.value) + str(refused.value)
    assert secure_postgres.password not in said
    assert "wrong-secret-word" not in said
    done = eureka({"database_url": url}, "db", "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("eureka: PostgreSQL at ")
    assert done.stderr.count("\n") == 1
    assert re.search(reason, done.stderr)
