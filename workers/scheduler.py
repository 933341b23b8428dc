"""Which windows go to a device next: a bounded queue, asked whenever a device has free lanes.

In: jobs with a due time and their kind, and what a device already holds. Out: the jobs to hand over now. Does not know
asyncio, processes, audio or the model (which batches by length itself).

One number orders everything: `due_s = deadline + class · ageing_s`. So interactive windows run before backfill
and speech before scenes, yet nothing starves: whatever arrives after a job's due time comes after it.
Invariants: the head is the earliest due of all that wait and may run there; background (scenes and backfill) holds at
most its share of a device's lanes, so that speech never waits for a scene; a suspect has a device to itself; an id is
used once.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

SAMPLE_RATE = 16_000


class QueueFull(Exception):
    """More jobs than `max_queued`; the caller waits and tries again."""


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Limits of the queue and of a device: `max_batch_windows` are its lanes, the windows under way at a time.

    Of those, background may take `background_share`, at least one and never the last of several.
    """

    max_queued: int = 512
    max_batch_windows: int = 64
    background_share: float = 0.75
    ageing_s: float = 20.0
    max_wish_s: float = 60.0

    def __post_init__(self) -> None:
        if self.max_batch_windows < 1 or self.max_queued < 1:
            raise ValueError("a batch and the queue hold at least one window")
        if not 0.0 <= self.background_share <= 1.0:
            raise ValueError("a share lies between 0 and 1")

    def background_lanes(self, lanes: int) -> int:
        """How many of a device's lanes scenes and backfill may hold."""
        return max(1, min(int(lanes * self.background_share), lanes - 1))


@dataclass(frozen=True, slots=True)
class Job:
    """A window that waits or runs. `due_s` is on the caller's clock; `alone`: nothing else may run beside it."""

    job_id: int
    due_s: float
    background: bool = False
    alone: bool = False


Heap = list[tuple[float, int]]


@dataclass(slots=True)
class Scheduler:
    """Waiting jobs by id, and a heap of (due, id) for each kind; cancelled ids are dropped lazily."""

    config: SchedulerConfig
    _waiting: dict[int, Job] = field(default_factory=dict)
    _speech: Heap = field(default_factory=list)
    _background: Heap = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, job_id: int, *, due_s: float, background: bool = False) -> Job:
        """Queue a job. Raises QueueFull at the limit."""
        if len(self._waiting) >= self.config.max_queued:
            raise QueueFull(f"{len(self._waiting)} windows wait already")
        job = Job(job_id, due_s, background)
        self._insert(job)
        return job

    def push_alone(self, job: Job, *, due_s: float) -> Job:
        """Queue a job again that may have killed its process. It keeps its place in the limit and runs by itself."""
        suspect = Job(job.job_id, due_s, job.background, alone=True)
        self._insert(suspect)
        return suspect

    def cancel(self, job_id: int) -> bool:
        """Forget a waiting job; False when it does not wait (it runs, or has run)."""
        return self._waiting.pop(job_id, None) is not None

    def next_batch(self, most: int, held: Sequence[Job] = ()) -> tuple[Job, ...]:
        """At most `most` jobs, by due time, for a device with so many free lanes that holds `held`; perhaps none.

        Never waits for a fuller batch: who asks has lanes to fill. A suspect whose turn it is gets the device once
        it is empty; until then the device gets nothing else, or the suspect would starve.
        """
        batch: list[Job] = []
        if any(job.alone for job in held):
            return ()
        background = self.config.background_lanes(most + len(held)) - sum(job.background for job in held)
        while len(batch) < most and (heap := self._most_urgent(with_background=background > 0)):
            job = self._waiting[heap[0][1]]
            if job.alone and (held or batch):
                break
            heapq.heappop(heap)
            batch.append(self._waiting.pop(job.job_id))
            if job.alone:
                break
            background -= job.background
        return tuple(batch)

    def _insert(self, job: Job) -> None:
        if job.job_id in self._waiting:
            raise ValueError(f"job {job.job_id} waits already")
        self._waiting[job.job_id] = job
        heapq.heappush(self._background if job.background else self._speech, (job.due_s, job.job_id))

    def _most_urgent(self, *, with_background: bool) -> Heap | None:
        """The heap with the earliest due job; None when no job waits that may run."""
        for heap in (self._speech, self._background):
            while heap and ((job := self._waiting.get(heap[0][1])) is None or job.due_s != heap[0][0]):
                heapq.heappop(heap)
        heaps = (self._speech, self._background) if with_background else (self._speech,)
        return min((heap for heap in heaps if heap), key=lambda heap: heap[0], default=None)


def due_s(
    config: SchedulerConfig, now_s: float, deadline_s: float, *, interactive: bool, speech: bool
) -> float:
    """When a window that arrives now is due: speech before scene, interactive before backfill, each by `ageing_s`."""
    urgency = (0 if interactive else 2) + (0 if speech else 1)
    return min(max(deadline_s, now_s), now_s + config.max_wish_s) + urgency * config.ageing_s
