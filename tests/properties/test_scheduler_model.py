"""The queue against a sorted list, and what follows for a device that is never idle: nothing starves, cancelling leaves
no trace.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from workers.scheduler import Job, QueueFull, Scheduler, SchedulerConfig, due_s

CONFIG = SchedulerConfig(
    max_queued=12, max_batch_windows=4, background_share=0.5, ageing_s=5.0, max_wish_s=10.0
)


def naive_batch(waiting: list[Job], most: int, held: list[Job]) -> list[Job]:
    """Read over everything that waits, by due time: take what may run beside what runs."""
    if any(job.alone for job in held):
        return []
    batch: list[Job] = []
    lanes = CONFIG.background_lanes(most + len(held))
    while len(batch) < most:
        used = sum(job.background for job in (*held, *batch))
        may = [job for job in waiting if job not in batch and (used < lanes or not job.background)]
        head = min(may, key=lambda job: (job.due_s, job.job_id), default=None)
        if head is None or (head.alone and (held or batch)):
            break
        batch.append(head)
        if head.alone:
            break
    return batch


class QueueMachine(RuleBasedStateMachine):
    """Pushes, cancels, batches, answers and losses, told to both."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(CONFIG)
        self.waiting: list[Job] = []
        self.held: list[Job] = []
        self.known = 0

    @rule(due=st.integers(0, 9), background=st.booleans())
    def push(self, due: int, background: bool) -> None:
        if len(self.waiting) >= CONFIG.max_queued:
            with pytest.raises(QueueFull):
                self.scheduler.push(self.known, due_s=float(due), background=background)
            return
        self.waiting.append(self.scheduler.push(self.known, due_s=float(due), background=background))
        self.known += 1

    @rule(job_id=st.integers(0, 40))
    def cancel(self, job_id: int) -> None:
        waits = [job for job in self.waiting if job.job_id == job_id]
        assert self.scheduler.cancel(job_id) == bool(waits)
        self.waiting = [job for job in self.waiting if job.job_id != job_id]

    @rule(most=st.integers(0, 4))
    def batch(self, most: int) -> None:
        free = min(most, CONFIG.max_batch_windows - len(self.held))
        expected = naive_batch(self.waiting, free, self.held)
        assert list(self.scheduler.next_batch(free, self.held)) == expected
        self.waiting = [job for job in self.waiting if job not in expected]
        self.held += expected
        assert len(self.scheduler) == len(self.waiting)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 3))
    def answer(self, which: int) -> None:
        del self.held[which % len(self.held)]

    @precondition(lambda self: self.held)
    @rule(due=st.integers(0, 9))
    def lose(self, due: int) -> None:
        self.waiting += [self.scheduler.push_alone(job, due_s=float(due)) for job in self.held]
        self.held = []


QueueMachine.TestCase.settings = settings(
    derandomize=True, max_examples=120, stateful_step_count=40, deadline=None
)
TestQueueMachine = QueueMachine.TestCase
Arrival = tuple[bool, bool, float]  # interactive, speech, seconds until the next one arrives


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.05, 0.5)), min_size=1, max_size=30))
def test_nothing_starves_under_a_flood(first: list[Arrival]) -> None:
    """Four lanes, one second per window, and speech that comes as fast as it is served at best, without an end."""
    config = SchedulerConfig(max_queued=1000, background_share=0.5, ageing_s=5.0, max_wish_s=10.0)
    lanes, now_s = 4, 0.0
    scheduler = Scheduler(config)
    running: list[tuple[float, Job]] = []
    waiting, arrived_s = dict[int, Job](), dict[int, float]()
    for job_id, (interactive, speech, gap_s) in enumerate([*first, *([(True, True, 0.25)] * 300)]):
        due = due_s(config, now_s, now_s + 2.0, interactive=interactive, speech=speech)
        waiting[job_id] = scheduler.push(job_id, due_s=due, background=not (interactive and speech))
        arrived_s[job_id] = now_s
        now_s += gap_s
        running = [(end_s, job) for end_s, job in running if end_s > now_s]
        for job in scheduler.next_batch(lanes - len(running), [job for _, job in running]):
            del waiting[job.job_id]
            overtaken = [other for other in waiting.values() if other.due_s < arrived_s[job.job_id]]
            if overtaken:  # only by what may run while the lanes of background are taken
                assert all(other.background for other in overtaken)
                assert sum(held.background for _, held in running) == config.background_lanes(lanes)
            running.append((now_s + 1.0, job))
    assert not [job_id for job_id in waiting if job_id < len(first)]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    jobs=st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=12),
    most=st.integers(1, 4),
)
def test_a_cancelled_job_leaves_no_trace(jobs: list[tuple[int, bool, bool]], most: int) -> None:
    with_cancelled, without = Scheduler(CONFIG), Scheduler(CONFIG)
    for job_id, (due, background, cancelled) in enumerate(jobs):
        with_cancelled.push(job_id, due_s=float(due), background=background)
        if not cancelled:
            without.push(job_id, due_s=float(due), background=background)
    for job_id, (_, _, cancelled) in enumerate(jobs):
        assert not cancelled or with_cancelled.cancel(job_id)
    while batch := without.next_batch(most):
        assert with_cancelled.next_batch(most) == batch
    assert with_cancelled.next_batch(most) == ()
    assert len(with_cancelled) == 0
