"""One run of the fault tests: a script, with a database and topics of its own, and the workers that deal with it.

In: a stage, a script of input, settings. Out: the script produced, real workers started, states of the database waited
for (never a time alone), and what the report says: recovery times, peak memory, crash points hit. Knows no row of the
fault table. Invariant: whatever happens, no process is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.faults import checker
from tests.faults.expect import Expected, expect
from tests.faults.process import ROOT, Worker
from tests.faults.script import Line, Script
from tests.faults.stage import TEMPLATE, Stage
from tests.servers.postgres import execute, named
from workers.kafka_admin import create_topics
from workers.limits import cutter_config
from workers.parts import audio_limits
from workers.settings import Settings

WAIT_S: Final = 90.0
POLL_S: Final = 0.05
AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError, TimeoutError)
STAMPED_BEFORE_S: Final = (
    120.0  # records are stamped as of two minutes ago: no stamp of a script lies in the future
)
COMMON: Final[dict[str, Any]] = {
    "chunk_partitions": 2,
    "result_partitions": 1,
    "session_timeout_s": 4.0,
    "heartbeat_interval_s": 0.5,
    "rebalance_timeout_s": 10.0,
    "assign_timeout_s": 20.0,
    "commit_interval_s": 0.5,
    "sweep_interval_s": 0.5,
    "sweep_older_than_s": 0.5,
    "retry_max_s": 1.0,
    "broker_retry_s": 0.5,
    "broker_attempts": 60,
    "database_attempts": 30,
    "publish_timeout_s": 10.0,
    "drain_grace_s": 10.0,
    "idle_flush_s": 120.0,
    "max_window_s": 8.0,
    "max_chunk_bytes": 200_000,
    "max_inflight_windows": 16,
    "engine_max_batch": 8,
    "engine_factory": "tests.faults.engine:Telling",
}


class Failed(AssertionError):
    """A row's own check: what should have been seen was not."""


@dataclass
class Notes:
    """What one run says besides the checker's verdict."""

    recovery_s: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    declared: int = 0  # crash points
    hit: int = 0
    restarts: int = 0  # by the supervisor, after an exit with a failure
    more: dict[str, Any] = field(default_factory=dict)


class Run:
    """One script on one database under one prefix of topics, and the workers that deal with it."""

    def __init__(
        self,
        stage: Stage,
        script: Script,
        *,
        seed: int,
        settings: dict[str, Any],
        engine: dict[str, Any],
        outage_s: float,
    ) -> None:
        self.stage = stage
        self.script = script
        self.seed = seed
        self.outage_s = outage_s
        self.notes = Notes()
        name = uuid.uuid4().hex[:10]
        self.prefix = f"f{name}."
        self.database = f"faults_{name}"
        self.url = named(stage.postgres.url, self.database)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=stage.folder))
        self.settings: dict[str, Any] = {
            **COMMON,
            "brokers": stage.kafka.address,
            "topic_prefix": self.prefix,
            "group_id": self.prefix + "workers",
            "chunk_partitions": script.partitions,
            "engine_args": {"folder": str(self.folder), **engine},
            **settings,
        }
        self.written: list[tuple[Line, int]] = []
        self.past: list[tuple[Line, int]] = []  # written to a broker that is gone
        self.workers: list[Worker] = []
        self.supervised = False  # a worker that ends with a failure is started again
        self.kept: dict[str, list[bytes]] = {}  # messages of a broker that is gone
        self._began_s = time.time() - STAMPED_BEFORE_S

    @property
    def topic(self) -> str:
        return self.prefix + "audio.chunks"

    # ---- before ---------------------------------------------------------------------------------------------------

    async def open(self, tablespace: str | None = None) -> None:
        """Database and topics."""
        where = f" TABLESPACE {tablespace}" if tablespace else ""
        await execute(self.stage.postgres.url, f"CREATE DATABASE {self.database} TEMPLATE {TEMPLATE}{where}")
        await create_topics(Settings(**self.settings))

    async def close(self) -> None:
        """End all workers and drop the database."""
        for worker in self.workers:
            worker.end()
        drop = f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)"
        await execute(self.stage.postgres.url, drop)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def produce(self, lines: Sequence[Line] | None = None) -> None:
        """Write lines (all of the script, unless told) and wait until the broker has them."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.stage.kafka.address, acks="all", enable_idempotence=True
        )
        try:
            await producer.start()
            acks = []
            wanted = self.script.in_order() if lines is None else lines
            for line in wanted:
                ack = await producer.send(
                    self.topic,
                    value=line.value,
                    key=line.key,
                    partition=line.partition,
                    timestamp_ms=int((self._began_s + line.at_s + line.skew_s) * 1000),
                    headers=line.headers,
                )
                acks.append(ack)
            for line, ack in zip(wanted, await asyncio.gather(*acks), strict=True):
                self.written.append((line, ack.offset))
        finally:
            await producer.stop()

    # ---- workers --------------------------------------------------------------------------------------------------

    def start(self, crash: str | None = None, blow: signal.Signals = signal.SIGKILL) -> Worker:
        """Start a worker, armed with a crash point or not."""
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith("EUREKA_") and k != "DATABASE_URL"
        }
        environment |= {
            "EUREKA_" + k.upper(): v if isinstance(v, str) else json.dumps(v)
            for k, v in self.settings.items()
        }
        environment["DATABASE_URL"] = self.url
        environment["PYTHONPATH"] = str(ROOT)
        environment["FAULTS_HITS"] = str(self.folder / "hits")
        if crash is not None:
            environment |= {"FAULTS_CRASH": crash, "FAULTS_SIGNAL": str(int(blow))}
        worker = Worker(environment, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    @property
    def worker(self) -> Worker:
        """The one started last."""
        return self.workers[-1]

    @property
    def hits(self) -> list[str]:
        """Crash points that were reached."""
        path = self.folder / "hits"
        return path.read_text().split() if path.exists() else []

    def answered(self) -> list[tuple[int, str, str, int]]:
        """Every window that any engine process has answered: process, task, digest, windows under way."""
        path = self.folder / "answered"
        found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(pid), task, digest, int(n)) for pid, task, digest, n in found]

    # ---- waiting --------------------------------------------------------------------------------------------------

    async def until(
        self,
        what: str,
        true: Callable[[], Awaitable[Any]],
        limit_s: float = WAIT_S,
        *,
        workers_may_end: bool = False,
    ) -> Any:
        """Wait until `true` gives something that is true, and return it. Raises Failed.

        A database or a broker that is away makes nothing true and ends no wait.
        """
        deadline_s = time.monotonic() + limit_s
        while True:
            self._watch(workers_may_end)
            with contextlib.suppress(*AWAY):
                if found := await true():
                    return found
            if time.monotonic() > deadline_s:
                raise Failed(f"{what}: not reached in {limit_s:g} s\n{self.tail()}")
            await asyncio.sleep(POLL_S)

    async def ask(self, query: str) -> Any:
        """One value of the run's database. Raises what asyncpg does."""
        connection = await asyncpg.connect(self.url, timeout=3)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def rows(self) -> int:
        """Transcripts and captions so far."""
        return int(
            await self.ask("SELECT (SELECT count(*) FROM transcripts) + (SELECT count(*) FROM captions)")
        )

    async def progress(self) -> int:
        """Grows with every commit that settles anything."""
        return int(
            await self.ask(
                "SELECT (SELECT count(*) FROM transcripts) + (SELECT count(*) FROM captions)"
                " + (SELECT count(*) FROM dead_letters) + (SELECT coalesce(sum(next_offset), 0) FROM partitions)"
            )
        )

    async def reach(self, rows: int) -> None:
        """Wait until there are that many rows."""

        async def reached() -> bool:
            return await self.rows() >= rows

        await self.until(f"{rows} rows", reached)

    async def recovered(self, base: int, since_s: float) -> None:
        """Wait until something is committed again (or all is settled) and note how long it took."""

        async def goes_on() -> bool:
            return await self.progress() > base or await self.stored()

        await self.until("recovery", goes_on)
        self.notes.recovery_s.append(time.monotonic() - since_s)

    async def stored(self) -> bool:
        """Whether the database is done: every offset passed, every session ended, every row sent."""
        connection = await asyncpg.connect(self.url, timeout=3)
        try:
            found = await connection.fetch('SELECT "partition", next_offset FROM partitions')
            at = {r[0]: r[1] or 0 for r in found}
            behind = [p for p, end in self.ends().items() if at.get(p, 0) < end]
            if behind or await checker.unpublished(connection):
                return False
            ended = await connection.fetchval("SELECT count(*) FROM sessions WHERE ended")
            wanted = {line.session for line, _ in [*self.past, *self.written] if line.fate == "end"}
            return bool(ended >= len(wanted))
        finally:
            await connection.close()

    async def settle(self) -> None:
        """Wait until nothing is left to do, neither in the database nor in the lag that Kafka shows."""

        async def settled() -> bool:
            if not await self.stored():
                return False
            committed, ends = await checker.offsets(
                self.stage.kafka.address, self.topic, self.settings["group_id"]
            )
            return all((committed.get(p) or 0) >= end for p, end in ends.items())

        await self.until("everything settled", settled)

    def ends(self) -> dict[int, int]:
        """The offset after the last record of each partition, as far as this run has written."""
        ends: dict[int, int] = {}
        for line, offset in self.written:
            ends[line.partition] = max(ends.get(line.partition, 0), offset + 1)
        return ends

    async def committed(self) -> int:
        """How far the group has read, by Kafka's word: the sum over the partitions."""
        found, _ = await checker.offsets(self.stage.kafka.address, self.topic, self.settings["group_id"])
        return sum(offset or 0 for offset in found.values())

    # ---- after ----------------------------------------------------------------------------------------------------

    def expected(self) -> Expected:
        """What must be there, of all that was written."""
        settings = Settings(**self.settings)
        written = [*self.past, *self.written]
        expected = expect(self.script, written, self.topic, cutter_config(settings), audio_limits(settings))
        expected.ends = self.ends()
        return expected

    async def check(self) -> checker.Verdict:
        """Read everything and judge it."""
        facts = await checker.gather(
            self.url, self.stage.kafka.address, self.prefix, self.settings["group_id"]
        )
        for ce_id, values in self.kept.items():
            facts.messages.setdefault(ce_id, []).extend(values)
        return checker.judge(self.expected(), facts)

    def tail(self) -> str:
        """The last lines of every worker's log."""
        parts = []
        for worker in self.workers[-3:]:
            text = worker.log.read_text(errors="replace") if worker.log.exists() else ""
            parts.append(f"--- {worker.log.name}, status {worker.status}\n{text[-2500:]}")
        return "\n".join(parts)

    def _watch(self, may_end: bool) -> None:
        """Note memory; start again, or complain about, workers that ended."""
        for worker in self.workers:
            worker.rss_mb()
            self.notes.peak_rss_mb = max(self.notes.peak_rss_mb, worker.peak_rss_mb)
        if may_end or not self.workers or self.worker.status is None:
            return
        if self.supervised and self.worker.status == 1:
            self.notes.restarts += 1
            if self.notes.restarts > 20:
                raise Failed(f"the worker ends again and again\n{self.tail()}")
            self.start()
            return
        raise Failed(f"the worker ended with {self.worker.status}\n{self.tail()}")
