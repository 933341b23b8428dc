"""Which windows run together next: a bounded queue that hands out batches.

In: jobs (length, deadline, urgency class, tasks) and the clock as an argument. Out: batches of jobs that share their
tasks and their length bucket. Does not know asyncio, processes, audio or the model.

One number orders everything: `due_s = deadline + class · ageing_s`. So interactive windows run before backfill
and speech before scenes, yet nothing starves: whatever arrives after a job's due time comes after it.
Invariants: the head of a batch is the earliest due of all that wait; a batch never breaks a limit; a suspect runs
alone; an id is used once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass, field

SAMPLE_RATE = 16_000


class QueueFull(Exception):
    """More jobs than `max_queued`; the caller waits and tries again."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of the queue and of one batch. A batch costs `windows · its longest window` padded seconds."""

    max_queued: int = 512
    max_batch_windows: int = 16
    max_padded_s: float = 240.0
    bucket_edges_s: tuple[float, ...] = (2.0, 4.0, 8.0, 15.0, 30.0)
    ageing_s: float = 20.0
    max_wish_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_batch_windows < 1 or self.max_queued < 1:
            raise ValueError("a batch and the queue hold at least one window")
        if list(self.bucket_edges_s) != sorted(set(self.bucket_edges_s)):
            raise ValueError("bucket edges must rise")


@dataclass(frozen=True, slots=True)
class Job:
    """A window that waits. `due_s` is on the caller's clock; `group` are the jobs it may share a batch with."""

    job_id: int
    samples: int
    due_s: float
    group: Hashable
    alone: bool = False


@dataclass(slots=True)
class Scheduler:
    """Waiting jobs by id, and per group a heap of (due, id); cancelled ids are dropped lazily."""

    config: SchedulerConfig
    _waiting: dict[int, Job] = field(default_factory=dict)
    _groups: dict[Hashable, list[tuple[float, int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, job_id: int, samples: int, tasks: tuple[str, ...], *, due_s: float) -> Job:
        """Queue a job. Raises QueueFull at the limit."""
        if len(self._waiting) >= self.config.max_queued:
            raise QueueFull(f"{len(self._waiting)} windows wait already")
        job = Job(job_id, samples, due_s, (tasks, self._bucket(samples)))
        self._insert(job)
        return job

    def push_alone(self, job: Job, *, due_s: float) -> Job:
        """Queue a job again that may have killed its process. It keeps its place in the limit and runs by itself."""
        suspect = Job(job.job_id, job.samples, due_s, ("alone", job.job_id), alone=True)
        self._insert(suspect)
        return suspect

    def cancel(self, job_id: int) -> bool:
        """Forget a waiting job; False when it does not wait (it runs, or has run)."""
        return self._waiting.pop(job_id, None) is not None

    def next_batch(self) -> tuple[Job, ...]:
        """The job that is due first and as many of its group, by due time, as the limits allow; empty when none waits.

        Never waits for a fuller batch: who asks has an idle device.
        """
        group = self._most_urgent_group()
        if group is None:
            return ()
        heap = self._groups[group]
        batch: list[Job] = []
        longest = 0
        while heap and len(batch) < self.config.max_batch_windows:
            job = self._waiting.get(heap[0][1])
            if job is None or job.group != group:
                heapq.heappop(heap)
                continue
            longest = max(longest, job.samples)
            if batch and longest * (len(batch) + 1) > self.config.max_padded_s * SAMPLE_RATE:
                break
            heapq.heappop(heap)
            batch.append(self._waiting.pop(job.job_id))
        if not heap:
            del self._groups[group]
        return tuple(batch)

    def _insert(self, job: Job) -> None:
        if job.job_id in self._waiting:
            raise ValueError(f"job {job.job_id} waits already")
        self._waiting[job.job_id] = job
        heapq.heappush(self._groups.setdefault(job.group, []), (job.due_s, job.job_id))

    def _most_urgent_group(self) -> Hashable | None:
        best: tuple[float, int] | None = None
        chosen: Hashable | None = None
        for group, heap in list(self._groups.items()):
            while heap and ((job := self._waiting.get(heap[0][1])) is None or job.group != group):
                heapq.heappop(heap)
            if not heap:
                del self._groups[group]
            elif best is None or heap[0] < best:
                best, chosen = heap[0], group
        return chosen

    def _bucket(self, samples: int) -> int:
        return bisect_left(self.config.bucket_edges_s, samples / SAMPLE_RATE)


def due_s(
    config: SchedulerConfig, now_s: float, deadline_s: float, *, interactive: bool, speech: bool
) -> float:
    """When a window that arrives now is due: speech before scene, interactive before backfill, each by `ageing_s`."""
    urgency = (0 if interactive else 2) + (0 if speech else 1)
    return min(max(deadline_s, now_s), now_s + config.max_wish_s) + urgency * config.ageing_s
