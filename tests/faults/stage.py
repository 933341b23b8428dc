"""The stage of the fault tests: an Apache Kafka and a PostgreSQL that can be struck, for many runs in turn.

In: a folder. Out: two servers and a migrated template database. Knows no workers. Invariant: whatever happens, no
server is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storage.migrate import upgrade
from tests.servers.kafka import KafkaServer, kafka_missing
from tests.servers.postgres import execute, folder_for_postgres, named
from tests.servers.postgres_own import PostgresServer

TEMPLATE: Final = "faults_template"


class Stage:
    """Servers for many runs, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kafka = KafkaServer(folder / "kafka")
        self.postgres = PostgresServer(folder / "pg")

    def start(self) -> None:
        (self.folder / "kafka").mkdir(exist_ok=True)
        self.kafka.start()
        self.postgres.start()
        url = named(self.postgres.url, TEMPLATE)
        asyncio.run(execute(self.postgres.url, f"CREATE DATABASE {TEMPLATE}"))
        asyncio.run(upgrade(url))

    def wipe_kafka(self) -> None:
        """Another broker under the same address: all data and the cluster id are gone."""
        self.kafka.stop()
        shutil.rmtree(self.folder / "kafka")
        (self.folder / "kafka").mkdir()
        self.kafka.start()

    def heal(self) -> None:
        """Start again what a row that failed has left dead."""
        for server in (self.kafka, self.postgres):
            if not server.running:
                server.start()

    def close(self) -> None:
        self.kafka.stop()
        self.postgres.remove()


@contextlib.contextmanager
def open_stage() -> Iterator[Stage]:
    """Both servers, in a folder of their own. Raises RuntimeError where Apache Kafka cannot run."""
    missing = kafka_missing()
    if missing is not None:
        raise RuntimeError("the fault tests need Apache Kafka: %s" % missing)
    with folder_for_postgres() as folder:
        stage = Stage(folder)
        try:
            stage.start()
            yield stage
        finally:
            stage.close()
