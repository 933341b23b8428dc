"""`eureka retention`: what the settings say and nothing else, from the command line, once or until it is told."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storage.migrate import upgrade
from storage.sink import Store
from tests.security.clients import ROOT, environment, records
from tests.security.waiting import until
from tests.servers.kafka import Broker
from tests.servers.postgres import execute, folder_for_postgres
from tests.servers.postgres_own import PostgresServer
from tests.storage.samples import TOPIC, caption, commit, transcript
from tests.workers.history import history_settings, rows
from workers.cli import app
from workers.retention import clean
from workers.settings import Settings


def test_by_default_all_is_kept_and_what_is_said_goes_in_batches(database_url: str, kafka: Broker) -> None:
    settings = history_settings(kafka, "", database_url)
    spans = [(n * 100, n * 100 + 100) for n in range(25)]

    async def fill() -> None:
        store = await Store.open(database_url, attempts=1)
        epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
        spoken = tuple(transcript(*span) for span in spans)
        seen = tuple(caption(*span) for span in spans)
        await store.mark_published(await store.commit(commit(epoch, transcripts=spoken, captions=seen)))
        await store.close()
        for table in ("transcripts", "captions"):
            await rows(settings, f"UPDATE {table} SET created_at = now() - interval '2 days'")

    asyncio.run(fill())
    environment = {"EUREKA_DATABASE_URL": database_url}
    kept = CliRunner().invoke(app, ["retention", "--once", "--json"], env=environment)
    assert (json.loads(kept.stdout), kept.exit_code) == ({"deleted": {}}, 0)
    assert "kept for ever" in kept.stderr
    environment |= {"EUREKA_RETENTION_DAYS_TRANSCRIPTS": "1", "EUREKA_RETENTION_BATCH_ROWS": "10"}
    gone = CliRunner().invoke(app, ["retention", "--once", "--json"], env=environment)
    assert json.loads(gone.stdout) == {"deleted": {"transcripts": 25}}
    assert asyncio.run(rows(settings, "SELECT count(*) FROM captions")) == [(25,)]
    younger = settings.model_copy(update={"retention_days_captions": 3.0})
    assert asyncio.run(clean(younger)) == {"captions": 0}


@pytest.mark.parametrize("days", ["inf", "1e7"])
def test_an_age_before_all_calendars_is_refused_as_a_setting(days: str) -> None:
    """PostgreSQL knows no such day: the statement would fail, each time."""
    environment = {"EUREKA_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
    wrong = CliRunner().invoke(
        app, ["retention", "--once"], env=environment | {"EUREKA_RETENTION_DAYS_CAPTIONS": days}
    )
    assert "retention_days_captions" in f"{wrong.stderr}{wrong.exception}".lower()
    assert wrong.exit_code != 0


def test_a_misspelt_age_is_told() -> None:
    environment = {
        "EUREKA_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        "EUREKA_RETENTION_DAYS_CAPTION": "1",
    }
    told = CliRunner().invoke(app, ["retention", "--once"], env=environment).output
    assert "EUREKA_RETENTION_DAYS_CAPTION (did you mean EUREKA_RETENTION_DAYS_CAPTIONS?)" in " ".join(
        told.split()
    )


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with folder_for_postgres() as folder:
        server = PostgresServer(folder / "pg")
        try:
            server.start()
            yield server
        finally:
            server.resume()
            server.remove()


OLD_STREAM = """INSERT INTO streams (tenant_id, stream_id, topic, "partition", cluster_id, created_at)
VALUES ('default', 's', 't', 0, 'k', now() - interval '2 days')"""


def told(log: Path, message: str) -> int:
    return sum(record["message"] == message for record in records(log))


def test_without_once_it_goes_on_through_an_outage_until_it_is_told_to_end(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    asyncio.run(upgrade(own_postgres.url))
    settings = {"database_url": own_postgres.url, "retention_days_sessions": 1.0, "retention_interval_s": 0.1}
    log = tmp_path / "log"

    def cleans_up() -> None:
        asyncio.run(execute(own_postgres.url, OLD_STREAM))
        left = "SELECT count(*) FROM streams"
        until(lambda: asyncio.run(rows(Settings(**settings), left)) == [(0,)], "the old row is gone")

    command = [sys.executable, "-m", "workers.cli", "retention"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=sink, stderr=sink)
    try:
        cleans_up()
        cleans_up()
        own_postgres.stop(signal.SIGQUIT)
        until(lambda: told(log, "rows not deleted by age") > 1, "more than one round without a database")
        own_postgres.start()
        cleans_up()
        own_postgres.pause()  # whoever connects now gets no answer
        process.terminate()
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert records(log)[-1]["message"] == "retention stopped"
