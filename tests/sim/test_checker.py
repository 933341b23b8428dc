"""The checker sees what it is there for: each broken build is betrayed by some seed within a bound."""

from __future__ import annotations

import pytest

import tests.sim.__main__ as command
from tests.sim.broken import BROKEN
from tests.sim.check import check
from tests.sim.cluster import simulate

BOUND = 60  # seeds; most builds are betrayed by one of the first


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_build_is_betrayed(name: str) -> None:
    broken = BROKEN[name]
    for seed in range(broken.first, broken.first + BOUND):
        if broken.betrayed_by & {finding.kind for finding in check(simulate(seed, broken.build))}:
            return
    pytest.fail(f"{BOUND} seeds and no finding of {sorted(broken.betrayed_by)}")


def test_a_seed_that_fails_is_told_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build = BROKEN["gaps forgotten"].build
    monkeypatch.setattr(command, "simulate", lambda seed: simulate(seed, build))
    monkeypatch.setattr("sys.argv", ["sim", "--seeds", "2"])
    assert command.main() == 1
    told = capsys.readouterr().out
    assert "seed 0 failed at commit " in told
    assert "again: python -m tests.sim --seed 0" in told
    assert "gap: GapRow(" in told
    assert "seeds per minute" in told


def test_without_a_finding_the_status_is_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sim", "--seed", "1"])
    assert command.main() == 0
    assert "1 seeds, 0 failed" in capsys.readouterr().out
