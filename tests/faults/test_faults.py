"""A part of the fault table, small enough for every run of the suite (all of it: `make faults`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.__main__ import say, summary, table
from tests.faults.rows import QUICK, ROWS, play
from tests.faults.rows_process import crash_points, kill_at
from tests.faults.run import Run
from tests.faults.script import usual
from tests.faults.stage import Stage
from tests.faults.worker import POINTS

SUITE = ("engine_kill", "postgres_kill", "broker_kill", "sigterm", "bad_records", "damaged_audio")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", SUITE)
def test_a_fault_changes_no_row(stage: Stage, name: str) -> None:
    result = play(stage, name, 1)
    say(result)
    assert result.passed, result.error or result.impossible
    assert result.verdict.found == result.verdict.expected > 40


@pytest.mark.timeout(240)
def test_kill_9_at_named_points_changes_no_row(stage: Stage) -> None:
    places = ["in_pg_commit:2", "after_pg_commit:3", "mid_publish:2", "before_mark:1"]

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


def test_the_report_names_every_row(stage: Stage) -> None:
    result = play(stage, "two_tenants", 2)
    report = summary([result], 60.0)
    (row,) = report["rows"]
    assert (row["passed"], row["total"], row["missing"]) == (1, 1, 0), result.error
    assert row["expected"] == row["found"] > 20
    assert f"| {ROWS['two_tenants'].fault} | 1/1 | {row['expected']} |" in table(report)
