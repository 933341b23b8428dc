"""Where the CPU time of a run went: by process, summed to the stages that audio passes.

In: the process ids of a worker and of a sender; everything else below this process is known by its name. Out: CPU
seconds per second of each stage and its share of what it can have. Knows no stream and no latency.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Stage:
    """CPU seconds per second of wall time, in all and of the busiest thread; `share` of what the stage can have."""

    cores: float
    limit_cores: int
    busiest_thread: float
    share: float


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far, by stage and by thread of a stage, and of the machine: busy and in all."""

    at_s: float
    stages: Mapping[str, float]
    threads: Mapping[tuple[str, int], float]
    busy_s: float
    total_s: float


def look(worker: int, sender: int) -> Cpu:
    """Now, for this process and all below it; `worker` and `sender` are process ids."""
    stages: dict[str, float] = {}
    threads: dict[tuple[str, int], float] = {}
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            stage = _stage(process, worker, sender)
            if stage is None:
                continue
            spent = process.cpu_times()
            own_s = spent.user + spent.system
            if stage == "postgres":  # a backend that has ended is in its parent's account
                own_s += spent.children_user + spent.children_system
            threads |= {(stage, t.id): t.user_time + t.system_time for t in process.threads()}
        except psutil.Error:
            continue  # it has ended meanwhile
        stages[stage] = stages.get(stage, 0.0) + own_s
    machine = psutil.cpu_times()
    total_s = sum(machine) - machine.guest - machine.guest_nice  # Linux counts guests among the users too
    return Cpu(time.monotonic(), stages, threads, total_s - machine.idle - machine.iowait, total_s)


def _stage(process: psutil.Process, worker: int, sender: int) -> str | None:
    known = {worker: "worker", sender: "sender", os.getpid(): "bench"}
    if process.pid in known:
        return known[process.pid]
    name = process.name()
    if name.startswith("postgres"):
        return "postgres"
    if name.startswith("tansu"):
        return "broker"
    return "engine" if "workers.gpu_worker" in process.cmdline() else None


def stages_between(before: Cpu, after: Cpu, engine_cores: int) -> dict[str, Stage]:
    """What each stage took of what it can have: one core for one event loop, all cores for a server."""
    wall_s = after.at_s - before.at_s
    limits = {
        "sender": 1,
        "bench": 1,
        "worker": 1,
        "engine": engine_cores,
    }
    stages: dict[str, Stage] = {}
    for name in sorted(after.stages):
        taken = (after.stages[name] - before.stages.get(name, 0.0)) / wall_s
        busiest = max(
            (spent - before.threads.get(key, 0.0)) / wall_s
            for key, spent in after.threads.items()
            if key[0] == name
        )
        limit = limits.get(name, cores())
        stages[name] = Stage(round(taken, 3), limit, round(busiest, 3), round(max(taken / limit, busiest), 3))
    share = (after.busy_s - before.busy_s) / max(1e-9, after.total_s - before.total_s)
    stages["machine"] = Stage(round(share * cores(), 3), cores(), 0.0, round(share, 3))
    return stages


def other_cores(stages: Mapping[str, Stage]) -> float:
    ours = sum(stage.cores for name, stage in stages.items() if name != "machine")
    return round(max(0.0, stages["machine"].cores - ours), 3)


def cores() -> int:
    return psutil.cpu_count() or 1
