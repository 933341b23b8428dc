"""The scheduler: order, limits, no starvation, cancelling; by example and by Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.scheduler import SAMPLE_RATE, QueueFull, Scheduler, SchedulerConfig, due_s

SPEECH = ("transcript", "questions:speech")
SCENE = ("caption", "questions:scene")
CONFIG = SchedulerConfig(
    max_queued=40, max_batch_windows=4, max_padded_s=40.0, bucket_edges_s=(2.0, 8.0, 30.0), ageing_s=10.0
)


def drained(scheduler: Scheduler) -> list[list[int]]:
    batches = []
    while batch := scheduler.next_batch():
        batches.append([job.job_id for job in batch])
    return batches


def due(now_s: float, wish_s: float, *, interactive: bool = True, speech: bool = True) -> float:
    return due_s(CONFIG, now_s, now_s + wish_s, interactive=interactive, speech=speech)


def test_the_earliest_deadline_leads_and_its_bucket_fills_the_batch() -> None:
    scheduler = Scheduler(CONFIG)
    for job_id, (seconds, wish_s) in enumerate([(1.0, 3.0), (5.0, 1.0), (1.5, 2.0), (7.0, 9.0)]):
        scheduler.push(job_id, int(seconds * SAMPLE_RATE), SPEECH, due_s=due(0.0, wish_s))
    assert drained(scheduler) == [[1, 3], [2, 0]]


def test_a_batch_of_one_when_one_waits() -> None:
    scheduler = Scheduler(CONFIG)
    scheduler.push(7, SAMPLE_RATE, SPEECH, due_s=5.0)
    assert drained(scheduler) == [[7]]
    assert scheduler.next_batch() == ()


def test_interactive_before_backfill_and_speech_before_scene() -> None:
    scheduler = Scheduler(CONFIG)
    kinds = [(False, False), (False, True), (True, False), (True, True)]
    for job_id, (interactive, speech) in enumerate(kinds):
        tasks = (*(SPEECH if speech else SCENE), str(interactive))
        scheduler.push(
            job_id, SAMPLE_RATE, tasks, due_s=due(0.0, 2.0, interactive=interactive, speech=speech)
        )
    assert drained(scheduler) == [[3], [2], [1], [0]]


def test_backfill_that_has_waited_its_time_goes_first() -> None:
    scheduler = Scheduler(CONFIG)
    scheduler.push(0, SAMPLE_RATE, SPEECH, due_s=due(0.0, 2.0, interactive=False))
    scheduler.push(1, SAMPLE_RATE, (*SPEECH, "x"), due_s=due(19.0, 2.0))
    scheduler.push(2, SAMPLE_RATE, (*SPEECH, "x"), due_s=due(21.0, 2.0))
    assert drained(scheduler) == [[1, 2], [0]]  # 2 fills the batch that 1 leads
    scheduler.push(3, SAMPLE_RATE, SPEECH, due_s=due(0.0, 2.0, interactive=False))
    scheduler.push(4, SAMPLE_RATE, (*SPEECH, "x"), due_s=due(21.0, 2.0))
    assert drained(scheduler) == [[3], [4]]


def test_a_far_deadline_cannot_park_a_window_for_ever() -> None:
    assert due(5.0, 1e9) == 5.0 + CONFIG.max_wish_s
    assert due(5.0, -1e9) == 5.0


def test_a_suspect_runs_alone_and_does_not_count_against_the_limit() -> None:
    scheduler = Scheduler(SchedulerConfig(max_queued=2))
    first = scheduler.push(0, SAMPLE_RATE, SPEECH, due_s=1.0)
    second = scheduler.push(1, SAMPLE_RATE, SPEECH, due_s=2.0)
    assert len(scheduler.next_batch()) == 2
    scheduler.push(2, SAMPLE_RATE, SPEECH, due_s=0.0)
    scheduler.push(3, SAMPLE_RATE, SPEECH, due_s=1.5)
    scheduler.push_alone(first, due_s=1.0)
    scheduler.push_alone(second, due_s=2.0)
    assert drained(scheduler) == [[2, 3], [0], [1]]


def test_a_full_queue_says_so() -> None:
    scheduler = Scheduler(SchedulerConfig(max_queued=1))
    scheduler.push(0, 1, SPEECH, due_s=0.0)
    with pytest.raises(QueueFull):
        scheduler.push(1, 1, SPEECH, due_s=0.0)
    assert scheduler.cancel(0)
    assert not scheduler.cancel(0)
    scheduler.push(1, 1, SPEECH, due_s=0.0)
    assert drained(scheduler) == [[1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 60), st.floats(0, 3)), max_size=60))
def test_whatever_arrives_after_a_jobs_due_time_comes_after_it(
    arrivals: list[tuple[bool, bool, float, float]],
) -> None:
    config = SchedulerConfig(max_queued=100, max_batch_windows=1)
    scheduler = Scheduler(config)
    now_s = 0.0
    arrived: dict[int, float] = {}
    dues: dict[int, float] = {}
    for job_id, (interactive, speech, wish_s, gap_s) in enumerate(arrivals):
        now_s += gap_s
        arrived[job_id] = now_s
        dues[job_id] = due_s(config, now_s, now_s + wish_s, interactive=interactive, speech=speech)
        scheduler.push(job_id, 100, SPEECH, due_s=dues[job_id])
    order = [batch[0] for batch in drained(scheduler)]
    for place, job_id in enumerate(order):
        assert all(arrived[earlier] <= dues[job_id] for earlier in order[:place])


class SchedulerMachine(RuleBasedStateMachine):
    """Pushes, cancels, reruns and batches in any order: nothing lost, nothing twice, no limit broken, head is first."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(CONFIG)
        self.waiting: dict[int, float] = {}
        self.taken: list = []
        self.next_id = 0

    @rule(seconds=st.floats(0, 30), tasks=st.sampled_from([SPEECH, SCENE]), wish_s=st.floats(0, 50))
    def push(self, seconds: float, tasks: tuple[str, ...], wish_s: float) -> None:
        job_id, self.next_id = self.next_id, self.next_id + 1
        if len(self.waiting) >= CONFIG.max_queued:
            with pytest.raises(QueueFull):
                self.scheduler.push(job_id, int(seconds * SAMPLE_RATE), tasks, due_s=wish_s)
            return
        self.scheduler.push(job_id, int(seconds * SAMPLE_RATE), tasks, due_s=wish_s)
        self.waiting[job_id] = wish_s

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.scheduler.cancel(job_id)
        del self.waiting[job_id]

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), due=st.floats(0, 50))
    def rerun(self, data: st.DataObject, due: float) -> None:
        job = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.waiting[job.job_id] = due
        self.scheduler.push_alone(job, due_s=due)

    @rule()
    def batch(self) -> None:
        batch = self.scheduler.next_batch()
        assert bool(batch) == bool(self.waiting)
        if not batch:
            return
        assert batch[0].due_s == min(self.waiting.values())
        assert len(batch) <= CONFIG.max_batch_windows
        assert len({job.group for job in batch}) == 1
        padded = len(batch) * max(job.samples for job in batch)
        assert len(batch) == 1 or padded <= CONFIG.max_padded_s * SAMPLE_RATE
        assert len(batch) == 1 or not any(job.alone for job in batch)
        for job in batch:
            assert self.waiting.pop(job.job_id) == job.due_s
        self.taken.extend(batch)

    @invariant()
    def nothing_lost(self) -> None:
        assert len(self.scheduler) == len(self.waiting)


SchedulerMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase
