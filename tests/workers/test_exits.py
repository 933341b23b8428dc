"""What a supervisor learns from an exit status, and that an end that was asked for comes even where all hangs."""

import subprocess
import sys

import pytest

from streams.errors import Fenced, Reject, Unavailable
from workers.exits import Exit, status_of
from workers.watchdog import Stalled


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("no broker"), Exit.UNAVAILABLE),
        (Stalled("nothing moved"), Exit.STALLED),
        (Fenced("stale epoch"), Exit.FENCED),
        (ZeroDivisionError(), Exit.FAILED),
        (Reject("schema", "a reject that nobody caught is a defect"), Exit.FAILED),
    ],
)
def test_each_end_has_its_status(error: Exception, status: Exit) -> None:
    assert status_of(error) == status


def test_statuses_are_told_apart_and_leave_2_to_wrong_calls() -> None:
    assert len({int(status) for status in Exit}) == len(Exit)
    assert 2 not in set(Exit)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("exits.end_within(0.1, exits.Exit.UNFINISHED, 'asked')", Exit.UNFINISHED),
        ("exits.guard_loop(0.5)()", Exit.STALLED),
    ],
)
def test_a_process_that_hangs_is_ended_with_the_status_it_was_given(code: str, status: Exit) -> None:
    hanging = f"import threading; from workers import exits; {code}; threading.Event().wait()"
    assert subprocess.run([sys.executable, "-c", hanging], check=False, timeout=60).returncode == status
