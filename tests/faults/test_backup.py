"""A database that is lost and comes back from a backup of an earlier state, while Kafka goes on as it was.

The backup is made by pg_dump while a worker writes, the server's data folder is deleted under the worker's hands, and
deploy/postgres/restore.sh puts the backup into a new server. PostgreSQL is the operating system's; the checker is that
of the fault table. The last test takes records from the topic for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from storage import migrate
from storage.erasure import Scope
from storage.migrate import upgrade
from storage.roles import worker_grants
from tests.faults import checker
from tests.faults.process import ROOT
from tests.faults.run import Run
from tests.faults.script import usual
from tests.faults.stage import Stage
from tests.security.clients import eureka
from tests.servers.postgres import execute, folder_for_postgres, named
from tests.servers.postgres_own import PostgresServer
from workers.erase import erase
from workers.exits import Exit
from workers.kafka_admin import create_topics
from workers.settings import Settings

SEED = 21
WORKER = "eureka_worker"
ERASED = "s4"
ROWS_AFTER_BACKUP = 6
SENT = "published_at IS NOT NULL"


@dataclass
class Rehearsal:
    """A run with a backup from its middle: what the backup holds, and where the server's programs are."""

    run: Run
    binaries: Path
    dump: Path

    @property
    def owner_url(self) -> str:
        """The worker's role can neither migrate nor erase."""
        return named(self.run.stage.postgres.url, self.run.database)

    async def begin(self) -> None:
        """A worker that writes; a backup; more that is written and sent after it. The worker is still at it."""
        run = self.run
        await execute(
            run.stage.postgres.url, f"CREATE ROLE {WORKER} LOGIN", f"CREATE DATABASE {run.database}"
        )
        await upgrade(self.owner_url)
        await execute(self.owner_url, *worker_grants(WORKER))
        await create_topics(Settings(**run.settings))
        lines = run.script.in_order()
        before, after = lines[: len(lines) * 2 // 3], lines[len(lines) * 2 // 3 :]
        await run.produce(before)
        run.start()

        async def moved_on() -> bool:
            stored = await self.stored()
            return len(stored) == run.script.partitions and all(
                (offset or 0) > 0 for offset in stored.values()
            )

        await run.until("a stored offset in each partition", moved_on)
        done = self._command("pg_dump", "--format=custom", f"--file={self.dump}", run.database)
        assert (done.returncode, done.stderr) == (0, "")
        base = await run.rows()
        await run.produce(after)

        async def went_on() -> bool:
            return len(await self.rows(SENT)) >= base + ROWS_AFTER_BACKUP

        await run.until("rows after the backup, and their messages", went_on)

    async def lose_and_restore(self) -> None:
        """What an operator does, see README, "Backup"."""
        self.run.stage.postgres.wipe()
        await execute(self.run.stage.postgres.url, f"CREATE ROLE {WORKER} LOGIN")
        done = self.restore()
        assert (done.returncode, done.stderr) == (0, "")

    def restore(self) -> subprocess.CompletedProcess[str]:
        """Run the script of the repository."""
        script = ROOT / "deploy" / "postgres" / "restore.sh"
        return self._command(str(script), str(self.dump), self.run.database)

    async def fetch(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the run's database."""
        connection = await asyncpg.connect(self.owner_url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def rows(self, which: str = "true") -> dict[str, str]:
        """Transcripts and captions: id → stream."""
        tables = (
            f"SELECT ce_id, stream_id FROM {name} WHERE {which}" for name in ("transcripts", "captions")
        )
        return dict(await self.fetch(" UNION ALL ".join(tables)))

    async def stored(self) -> dict[int, int]:
        """From where each partition is to be read again."""
        return dict(await self.fetch('SELECT "partition", next_offset FROM partitions'))

    async def resumed(self) -> dict[str, int]:
        """By stream: the first chunk that is not settled."""
        return dict(await self.fetch("SELECT stream_id, resume_sequence FROM sessions"))

    def end_workers(self) -> None:
        """Ask first: who leaves the group by itself is not waited for by the next one."""
        for worker in self.run.workers:
            worker.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(20)
            worker.end()

    def _command(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "PGHOST": str(self.run.stage.postgres.sockets),
            "PGUSER": "eureka",
        }
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rehearsal(stage: Stage, postgres_binaries: Path) -> Iterator[Rehearsal]:
    with folder_for_postgres() as folder:
        server = PostgresServer(folder / "pg", binaries=postgres_binaries)
        other = copy.copy(stage)  # the same Kafka, another PostgreSQL
        other.postgres = server
        engine = {"pace_s": 0.08}
        run = Run(other, usual(SEED, seconds=22.0), seed=SEED, settings={}, engine=engine, outage_s=0)
        made = Rehearsal(run, postgres_binaries, folder / "eureka.dump")
        run.url = made.owner_url.replace("//eureka@", f"//{WORKER}@")
        try:
            server.start()
            asyncio.run(made.begin())
            yield made
            asyncio.run(run.close())
        finally:
            made.end_workers()
            server.remove()


@pytest.mark.timeout(240)
def test_a_restored_database_ends_with_the_rows_it_would_have_had(rehearsal: Rehearsal) -> None:
    """Even under a worker that lives through it all: it is refused, and the next one reads from the stored offset."""
    run = rehearsal.run

    async def rehearse() -> None:
        sent, survivor = await rehearsal.rows(SENT), run.worker
        assert run.worker.status is None
        await rehearsal.lose_and_restore()
        restored = await rehearsal.rows()
        lost = sent.keys() - restored.keys()
        assert restored
        assert len(lost) >= ROWS_AFTER_BACKUP
        problems = await migrate.check(rehearsal.owner_url)
        assert [p for p in problems if "wait for their topic" not in p] == []
        once_more = rehearsal.restore()
        assert once_more.returncode == 1
        assert "is there: drop or rename it first" in once_more.stderr

        async def refused() -> bool:
            return survivor.status is not None

        await run.until("the old worker's end", refused, workers_may_end=True)
        assert survivor.status == Exit.FENCED, run.tail()
        run.start()
        await run.settle()
        verdict = await run.check()
        assert verdict.passed, verdict.faults() + run.tail()
        assert verdict.found == verdict.expected > len(restored) + len(lost)
        facts = checker.Facts()
        await checker.read_topics(facts, run.stage.kafka.address, run.prefix)
        assert lost <= {ce_id for ce_id, values in facts.messages.items() if len(values) > 1}

    asyncio.run(rehearse())
    checked = eureka({"database_url": run.url}, "db", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.timeout(240)
def test_what_the_backup_undoes_is_done_again_and_what_the_topic_lost_is_told(rehearsal: Rehearsal) -> None:
    """An erasure that the backup does not know, and a retention that was quicker than the restore."""
    run, scope = rehearsal.run, Scope("default", ERASED)
    owner = Settings(**run.settings, database_url=rehearsal.owner_url)
    rehearsal.end_workers()

    async def rehearse() -> None:
        await erase(owner, scope)
        assert ERASED not in (await rehearsal.rows()).values()
        await rehearsal.lose_and_restore()
        assert ERASED in (await rehearsal.rows()).values()
        await erase(owner, scope)
        kept, left, resumed = await rehearsal.rows(), await rehearsal.stored(), await rehearsal.resumed()
        assert ERASED not in kept.values()
        cut = {p: (left[p] + end) // 2 for p, end in run.ends().items()}
        await _delete_records(run, cut)
        worker = run.start()

        async def read() -> bool:
            now = await rehearsal.stored()
            return all(now[p] >= end for p, end in run.ends().items())

        await run.until("all that the topic still has", read)
        found = await rehearsal.rows()
        assert ERASED not in found.values()
        assert kept.keys() < found.keys()
        lost = 'SELECT "partition", first_offset, end_offset, reason FROM lost_ranges ORDER BY 1'
        assert await rehearsal.fetch(lost) == [(p, left[p], cut[p], "retention") for p in sorted(cut)]
        assert worker.said("records are gone that were not all read") == len(cut)
        gaps = "SELECT stream_id, generate_series(first_sequence, last_sequence) FROM gaps"
        assert set(await rehearsal.fetch(gaps)) == {
            (line.session.stream_id, line.sequence)
            for line, offset in run.written
            if line.fate == "chunk" and line.session is not None and line.session.stream_id != ERASED
            if offset < cut[line.partition] and line.sequence >= resumed[line.session.stream_id]
        }

    asyncio.run(rehearse())
    checked = eureka({"database_url": run.url}, "db", "check")
    assert checked.returncode == 1
    assert "lost_ranges: 2 times Kafka lost records" in checked.stdout + checked.stderr


async def _delete_records(run: Run, before: dict[int, int]) -> None:
    """What Kafka's retention does, at once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=run.stage.kafka.address)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(run.topic, p): RecordsToDelete(offset) for p, offset in before.items()}
        )
    finally:
        await admin.close()
