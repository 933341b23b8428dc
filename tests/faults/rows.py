"""The fault table: each row with its input, its act and its settings, and how one row is run for one seed.

In: a stage, a row, a seed. Out: a `Result`. Invariant: a row passes only when its own check and the common check
(`tests.faults.checker`) both do; a row that this machine cannot run says why and counts as neither.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tests.faults import rows_input as given
from tests.faults import rows_process as process
from tests.faults import rows_servers as servers
from tests.faults.checker import Verdict
from tests.faults.run import Failed, Notes, Run
from tests.faults.script import Script, usual
from tests.faults.stage import Stage
from tests.servers.postgres import execute


@dataclass(frozen=True)
class Row:
    """One fault."""

    fault: str
    act: Callable[[Run], Awaitable[None]]
    script: Callable[[int], Script] = usual
    settings: dict[str, Any] = field(default_factory=dict)
    engine: dict[str, Any] = field(default_factory=lambda: {"pace_s": 0.05})
    small_disk: bool = False


@dataclass
class Result:
    """What came of one row with one seed. `error` tells why it failed, `impossible` why it could not be run."""

    row: str
    seed: int
    took_s: float
    verdict: Verdict
    notes: Notes
    error: str = ""
    impossible: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and not self.impossible and self.verdict.passed


QUICK = {"pace_s": 0.0}

ROWS: dict[str, Row] = {
    "worker_kill": Row("worker kill -9 at every named crash point", process.kill_worker),
    "engine_kill": Row("engine process kill -9 in the child", process.kill_engine, process.engine_dies),
    "engine_hang": Row(
        "engine process hangs: SIGSTOP, and no answer",
        process.hang_engine,
        process.engine_hangs,
        {"engine_deadline_s": 1.0, "engine_max_batch": 2},
        {"pace_s": 0.02, "capacity": 2},
    ),
    "poison_window": Row(
        "one window that kills every engine process, among at least 31 good ones",
        process.poison_window,
        process.poison,
    ),
    "broker_stop": Row("broker stop and start", servers.stop_broker),
    "broker_kill": Row("broker kill -9 and start", servers.kill_broker),
    "broker_wiped": Row(
        "broker wiped, the database remembers", servers.wipe_broker, servers.short, engine=QUICK
    ),
    "partitions_grown": Row(
        "partition count grown, a stream moves", servers.grow_partitions, servers.short, engine=QUICK
    ),
    "postgres_restart": Row("PostgreSQL restart", servers.restart_postgres),
    "postgres_kill": Row("PostgreSQL kill -9 and start", servers.kill_postgres),
    "postgres_outage": Row(
        "PostgreSQL outage", servers.postgres_outage, servers.long, {"max_uncommitted_records": 60}
    ),
    "disk_full": Row("disk of PostgreSQL full", servers.fill_disk, small_disk=True),
    "bad_records": Row(
        "no message, wrong schema, wrong version", given.work_through, given.bad_records, engine=QUICK
    ),
    "damaged_audio": Row(
        "corrupt, truncated, oversized audio", given.work_through, given.damaged_audio, engine=QUICK
    ),
    "disorder": Row(
        "duplicate, out-of-order, missing, late chunks", given.work_through, given.disorder, engine=QUICK
    ),
    "clock_skew": Row(
        "producers' clocks an hour off, or set by an hour",
        given.work_through,
        given.skewed_clocks,
        engine=QUICK,
    ),
    "slow_engine": Row(
        "slow engine",
        process.slow_engine,
        settings={"max_inflight_windows": 8, "engine_max_batch": 4},
        engine={"pace_s": 0.2},
    ),
    "rebalance_storm": Row(
        "a second worker joins and leaves", process.rebalance_storm, servers.long, engine={"pace_s": 0.25}
    ),
    "zombie": Row("worker stopped before a commit, taken over, continued", process.zombie),
    "sigterm": Row("SIGTERM with work in flight", process.terminate, engine={"pace_s": 0.25}),
    "two_tenants": Row(
        "two tenants, the same stream and session id", given.work_through, given.two_tenants, engine=QUICK
    ),
    "producer_restart": Row(
        "producer begins again at sequence 0",
        given.work_through,
        given.producer_restarts,
        {"idle_flush_s": 3.0},
        QUICK,
    ),
}


def play(stage: Stage, name: str, seed: int, outage_s: float = 8.0) -> Result:
    """Run one row with one seed, from an empty database to the verdict."""
    return asyncio.run(_play(stage, name, seed, ROWS[name], outage_s))


async def _play(stage: Stage, name: str, seed: int, row: Row, outage_s: float) -> Result:
    began_s = time.monotonic()
    run = Run(
        stage,
        row.script(seed),
        seed=seed,
        settings=row.settings,
        engine=row.engine,
        outage_s=outage_s,
    )
    verdict, error, impossible = Verdict(), "", ""
    with ExitStack() as stack:
        try:
            if row.small_disk:
                await servers.open_on_small_disk(run, stack.enter_context(servers.small_disk(run)))
            else:
                await run.open()
            await row.act(run)
            await run.settle()
            verdict = await run.check()
            if not verdict.passed:
                error = f"{verdict.faults()}\n{run.tail()}"
        except Failed as failure:
            error = str(failure)
        except OSError as failure:
            if run.workers:
                raise
            impossible = str(failure)
        finally:
            stage.heal()
            await run.close()
            if row.small_disk and not impossible:
                await execute(stage.postgres.url, f"DROP TABLESPACE {servers.TABLESPACE}")
    return Result(name, seed, time.monotonic() - began_s, verdict, run.notes, error, impossible)
