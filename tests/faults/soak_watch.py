"""What a worker and its engine process hold, looked at from outside while they work.

In: the worker's process id, a connection to its database. Out: a dictionary of figures per look. Knows no verdict.
Invariant: one and the same engine process is watched; another in its place is an error, for it would hide growth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psutil

MB: Final = 1e6
APPLICATION: Final = "eureka"  # the name under which a worker's connections stand in pg_stat_activity
ENGINE: Final = "workers.gpu_worker"
ROWS: Final = ("transcripts", "captions", "events", "dead_letters", "gaps", "duplicates")


class Changed(RuntimeError):
    """The engine process is gone, or is not the one it was."""


class Watch:
    """Looks at one worker."""

    def __init__(self, worker: int) -> None:
        """Raises Changed where there is not exactly one engine process."""
        self._worker = psutil.Process(worker)
        self._engine = self._find()

    @property
    def engine_pid(self) -> int:
        return int(self._engine.pid)

    async def look(self, connection: Any, ends: Mapping[int, int]) -> dict[str, float]:
        """All figures now; `ends` are the offsets after the last records. Raises Changed, psutil.Error."""
        if self._find() != self._engine:
            raise Changed("another engine process has taken the place of the first")
        held = _held("worker", self._worker) | _held("engine", self._engine)
        return held | await _database(connection, ends) | {"processes": 1.0 + len(self._children())}

    def _children(self) -> list[psutil.Process]:
        return list(self._worker.children(recursive=True))

    def _find(self) -> psutil.Process:
        found = [child for child in self._children() if ENGINE in child.cmdline()]
        if len(found) != 1:
            raise Changed(f"{len(found)} engine processes instead of one")
        return found[0]


def _held(name: str, process: psutil.Process) -> dict[str, float]:
    """Resident and proportional memory in MB (10⁶ bytes), descriptors, sockets, threads."""
    with process.oneshot():
        memory = process.memory_full_info()
        return {
            f"{name}_rss_mb": round(memory.rss / MB, 2),
            f"{name}_pss_mb": round(memory.pss / MB, 2),
            f"{name}_fds": float(process.num_fds()),
            f"{name}_sockets": float(len(process.net_connections(kind="all"))),
            f"{name}_threads": float(process.num_threads()),
        }


async def _database(connection: Any, ends: Mapping[int, int]) -> dict[str, float]:
    held = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()",
        APPLICATION,
    )
    stored = dict(await connection.fetch('SELECT "partition", coalesce(next_offset, 0) FROM partitions'))
    rows = [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in ROWS]
    sessions = await connection.fetchval("SELECT count(*) FROM sessions")
    return {
        "database_connections": float(held),
        "lag_records": float(
            sum(end - min(end, stored.get(partition, 0)) for partition, end in ends.items())
        ),
        "rows": float(sum(rows)),
        "sessions": float(sessions),
    }
