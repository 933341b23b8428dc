"""`eureka retention`: what the settings say and nothing else, from the command line."""

import asyncio
import json

from typer.testing import CliRunner

from storage.sink import Store
from tests.servers.kafka import Broker
from tests.storage.samples import TOPIC, caption, commit, transcript
from tests.workers.history import history_settings, rows
from workers.cli import app
from workers.retention import clean


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
