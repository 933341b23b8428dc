"""The scheduler: order, limits, lanes for speech, no starvation, cancelling; by example and by Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.scheduler import Job, QueueFull, Scheduler, SchedulerConfig, due_s

CONFIG = SchedulerConfig(max_queued=40, max_batch_windows=4, background_share=0.5, ageing_s=10.0)


def drained(scheduler: Scheduler, most: int = 1) -> list[list[int]]:
    batches = []
    while batch := scheduler.next_batch(most):
        batches.append([job.job_id for job in batch])
    return batches


def due(now_s: float, wish_s: float, *, interactive: bool = True, speech: bool = True) -> float:
    return due_s(CONFIG, now_s, now_s + wish_s, interactive=interactive, speech=speech)


def test_the_earliest_due_go_first_and_no_more_than_there_are_lanes() -> None:
    scheduler = Scheduler(CONFIG)
    for job_id, wish_s in enumerate([3.0, 1.0, 2.0, 9.0, 4.0]):
        scheduler.push(job_id, due_s=due(0.0, wish_s))
    assert scheduler.next_batch(0) == ()
    assert drained(scheduler, 2) == [[1, 2], [0, 4], [3]]


def test_a_batch_of_one_when_one_waits() -> None:
    scheduler = Scheduler(CONFIG)
    scheduler.push(7, due_s=5.0)
    assert drained(scheduler, 4) == [[7]]
    assert scheduler.next_batch(4) == ()


def test_interactive_before_backfill_and_speech_before_scene() -> None:
    scheduler = Scheduler(CONFIG)
    for job_id, (interactive, speech) in enumerate(
        [(False, False), (False, True), (True, False), (True, True)]
    ):
        scheduler.push(
            job_id,
            due_s=due(0.0, 2.0, interactive=interactive, speech=speech),
            background=not (interactive and speech),
        )
    assert drained(scheduler) == [[3], [2], [1], [0]]


def test_backfill_that_has_waited_its_time_goes_first() -> None:
    scheduler = Scheduler(CONFIG)
    scheduler.push(0, due_s=due(0.0, 2.0, interactive=False), background=True)
    scheduler.push(1, due_s=due(19.0, 2.0))
    scheduler.push(2, due_s=due(21.0, 2.0))
    assert drained(scheduler) == [[1], [0], [2]]


def test_a_far_deadline_cannot_park_a_window_for_ever() -> None:
    assert due(5.0, 1e9) == 5.0 + CONFIG.max_wish_s
    assert due(5.0, -1e9) == 5.0


@pytest.mark.parametrize(
    ("share", "lanes", "background"),
    [(0.75, 64, 48), (0.75, 8, 6), (0.5, 3, 1), (1.0, 4, 3), (0.0, 4, 1), (0.75, 2, 1), (0.75, 1, 1)],
)
def test_background_has_a_lane_and_never_the_last_of_several(
    share: float, lanes: int, background: int
) -> None:
    assert SchedulerConfig(background_share=share).background_lanes(lanes) == background


def test_a_full_house_of_scenes_leaves_lanes_for_speech() -> None:
    scheduler = Scheduler(CONFIG)
    for job_id in range(6):
        scheduler.push(job_id, due_s=float(job_id), background=True)
    scenes = scheduler.next_batch(4)
    assert [job.job_id for job in scenes] == [0, 1]
    assert scheduler.next_batch(2, scenes) == ()
    for job_id in (6, 7, 8):
        scheduler.push(job_id, due_s=100.0)
    speech = scheduler.next_batch(2, scenes)
    assert [job.job_id for job in speech] == [6, 7]
    assert [job.job_id for job in scheduler.next_batch(1, (scenes[0], *speech))] == [2]
    assert [job.job_id for job in scheduler.next_batch(1, (*scenes, speech[0]))] == [8]


def test_a_suspect_runs_alone_and_does_not_count_against_the_limit() -> None:
    scheduler = Scheduler(SchedulerConfig(max_queued=2))
    first = scheduler.push(0, due_s=1.0)
    second = scheduler.push(1, due_s=2.0)
    assert len(scheduler.next_batch(4)) == 2
    scheduler.push(2, due_s=0.0)
    scheduler.push(3, due_s=1.5)
    scheduler.push_alone(first, due_s=1.0)
    scheduler.push_alone(second, due_s=2.0)
    assert drained(scheduler, 4) == [[2], [0], [3], [1]]


def test_a_device_is_emptied_for_a_suspect_and_belongs_to_it() -> None:
    scheduler = Scheduler(CONFIG)
    suspect = scheduler.push(0, due_s=1.0)
    scheduler.next_batch(1)
    scheduler.push_alone(suspect, due_s=1.0)
    scheduler.push(1, due_s=2.0)
    held = (Job(9, 0.0),)
    assert scheduler.next_batch(3, held) == ()
    (alone,) = scheduler.next_batch(4)
    assert alone.job_id == 0
    assert scheduler.next_batch(3, (alone,)) == ()
    assert drained(scheduler) == [[1]]


def test_a_full_queue_says_so() -> None:
    scheduler = Scheduler(SchedulerConfig(max_queued=1))
    scheduler.push(0, due_s=0.0)
    with pytest.raises(QueueFull):
        scheduler.push(1, due_s=0.0)
    assert scheduler.cancel(0)
    assert not scheduler.cancel(0)
    scheduler.push(1, due_s=0.0)
    assert drained(scheduler) == [[1]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 60), st.floats(0, 3)), max_size=60))
def test_whatever_arrives_after_a_jobs_due_time_comes_after_it(
    arrivals: list[tuple[bool, bool, float, float]],
) -> None:
    config = SchedulerConfig(max_queued=100)
    scheduler = Scheduler(config)
    now_s = 0.0
    arrived: dict[int, float] = {}
    dues: dict[int, float] = {}
    for job_id, (interactive, speech, wish_s, gap_s) in enumerate(arrivals):
        now_s += gap_s
        arrived[job_id] = now_s
        dues[job_id] = due_s(config, now_s, now_s + wish_s, interactive=interactive, speech=speech)
        scheduler.push(job_id, due_s=dues[job_id], background=not (interactive and speech))
    order = [batch[0] for batch in drained(scheduler)]
    for place, job_id in enumerate(order):
        assert all(arrived[earlier] <= dues[job_id] for earlier in order[:place])


class SchedulerMachine(RuleBasedStateMachine):
    """Two devices, and pushes, cancels, reruns and answers in any order: nothing lost, nothing twice, no limit broken,
    the head is first, speech finds a lane, a suspect is alone."""

    LANES = 4

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(CONFIG)
        self.waiting: dict[int, Job] = {}
        self.devices: list[list[Job]] = [[], []]
        self.next_id = 0

    @rule(due=st.floats(0, 50), background=st.booleans())
    def push(self, due: float, background: bool) -> None:
        job_id, self.next_id = self.next_id, self.next_id + 1
        if len(self.waiting) >= CONFIG.max_queued:
            with pytest.raises(QueueFull):
                self.scheduler.push(job_id, due_s=due, background=background)
            return
        self.waiting[job_id] = self.scheduler.push(job_id, due_s=due, background=background)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.scheduler.cancel(job_id)
        del self.waiting[job_id]

    @rule(device=st.integers(0, 1), due=st.floats(0, 50))
    def lose(self, device: int, due: float) -> None:
        for job in self.devices[device]:
            self.waiting[job.job_id] = self.scheduler.push_alone(job, due_s=due)
        self.devices[device].clear()

    @rule(device=st.integers(0, 1), data=st.data())
    def answer(self, device: int, data: st.DataObject) -> None:
        if held := self.devices[device]:
            held.pop(data.draw(st.integers(0, len(held) - 1)))

    @rule(device=st.integers(0, 1))
    def batch(self, device: int) -> None:
        held = self.devices[device]
        free = self.LANES - len(held)
        share = CONFIG.background_lanes(self.LANES) - sum(job.background for job in held)
        may_run = [job for job in self.waiting.values() if share > 0 or not job.background]
        head = min(may_run, key=lambda job: (job.due_s, job.job_id), default=None)
        batch = self.scheduler.next_batch(free, held)
        assert len(batch) <= free
        if head is None or not free or any(j.alone for j in held) or (head.alone and held):
            assert batch == ()
            return
        assert batch[0] == head
        for job in batch:
            assert self.waiting.pop(job.job_id) == job
        held.extend(batch)

    @invariant()
    def nothing_lost(self) -> None:
        assert len(self.scheduler) == len(self.waiting)

    @invariant()
    def speech_finds_a_lane_and_a_suspect_is_alone(self) -> None:
        for held in self.devices:
            assert sum(job.background for job in held) <= CONFIG.background_lanes(self.LANES) < self.LANES
            assert len(held) == 1 or not any(job.alone for job in held)


SchedulerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestScheduler = SchedulerMachine.TestCase
