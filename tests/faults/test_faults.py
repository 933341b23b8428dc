"""A part of the fault table, small enough for every run of the suite (all of it: `make faults`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.__main__ import say, summary, table
from tests.faults.checker import Verdict
from tests.faults.rows import QUICK, ROWS, Result, play
from tests.faults.rows_process import crash_points, kill_at
from tests.faults.run import Notes, Run
from tests.faults.script import usual
from tests.faults.stage import Stage
from tests.faults.worker import POINTS

SUITE = ("engine_kill", "postgres_kill", "broker_kill", "bad_records", "damaged_audio")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SUITE)
def test_a_fault_changes_no_row(stage: Stage, name: str) -> None:
    result = play(stage, name, 1)
    say(result)
    assert result.passed, result.error or result.impossible
    assert result.verdict.found == result.verdict.expected > 40


@pytest.mark.timeout(240)
def test_kill_9_at_named_points_changes_no_row(stage: Stage) -> None:
    places = ["in_pg_commit:2", "after_pg_commit:3", "mid_publish:2"]

    async def struck() -> None:
        run = Run(
            stage, usual(4, seconds=20.0), seed=4, settings={}, engine=QUICK | {"pace_s": 0.1}, outage_s=0
        )
        try:
            await run.open()
            await kill_at(run, places)
            await run.settle()
            verdict = await run.check()
            assert run.hits == places
            assert verdict.passed, verdict.faults() + run.tail()
        finally:
            await run.close()

    asyncio.run(struck())


def test_every_crash_point_has_its_turn() -> None:
    for seed in range(5):
        assert {place.partition(":")[0] for place in crash_points(seed)} == set(POINTS)


def test_the_report_counts_what_passed_and_says_what_was_not_run() -> None:
    verdict = Verdict(expected=9, found=9, dead=2, messages=11)
    good = Result("zombie", 1, 5.0, verdict, Notes([3.0, 1.0], 140.4, 1, 1))
    bad = Result("zombie", 2, 5.0, Verdict(expected=9, found=8, missing=1), Notes([7.0], 150.2, 1, 0))
    absent = Result("disk_full", 1, 0.1, Verdict(), Notes(), impossible="no small disk")
    report = summary([good, bad, absent], 60.0)
    assert table(report).splitlines()[2:] == [
        f"| {ROWS['zombie'].fault} | 1/2 | 18 | 17 | 1 | 0 | 2 | 3.0 / 7.0 s | 150 MB | 1/2 |",
        f"| {ROWS['disk_full'].fault} | not run: no small disk | 0 | 0 | 0 | 0 | 0 | – | 0 MB | – |",
    ]
    assert report["runs_per_minute"] == 3.0
