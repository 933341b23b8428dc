"""The checker sees what it is there for: each broken build is betrayed by some seed within a bound."""

from __future__ import annotations

import pytest

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
