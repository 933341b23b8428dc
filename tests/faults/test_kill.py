"""The worker dies by kill -9 and starts again: the rows are those of an undisturbed run (20 points: `make kill`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kill import strike
from tests.servers.kafka import Broker

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_kill_at_two_points_changes_no_row(kafka: Broker, postgres_server: str, tmp_path: Path) -> None:
    report = strike(kafka.address, postgres_server, tmp_path, ROOT / "build" / "recordings", 2, 3, 24.0)
    assert report.kills == 2
    assert report.rows["transcripts"] > 5
    assert report.passed, report
