"""Whether a soak was steady: what was sampled, split in thirds, the last one held against the one before.

In: samples (time and a figure per name). Out: a `Finding` per figure that has a rule. Pure: knows no process and no
file. Invariant: the rules stand here, before any run; the first third is warm-up and decides nothing.

Proportional memory (PSS) has no rule: it moves when a foreign process that maps the same libraries comes or goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

FEWEST: Final = 9  # samples; with fewer there is nothing to tell


@dataclass(frozen=True)
class Level:
    """A size that swings: the median of the last third is at most `ratio` times that of the second, plus `slack`."""

    ratio: float
    slack: float = 0.0


@dataclass(frozen=True)
class Count:
    """Things held: the most in the last third is at most the most in the second third, plus `allowed`."""

    allowed: int


RULES: Final[Mapping[str, Level | Count]] = {
    "worker_rss_mb": Level(1.05),
    "worker_fds": Count(2),
    "worker_sockets": Count(2),
    "worker_threads": Count(1),
    "engine_rss_mb": Level(1.05),
    "engine_fds": Count(1),
    "engine_sockets": Count(0),
    "engine_threads": Count(1),
    "processes": Count(0),
    "database_connections": Count(1),
    "lag_records": Level(1.25, 100.0),
}


@dataclass(frozen=True)
class Finding:
    """One figure over the whole run. `second` and `last` are what was compared, `limit` what `last` may be.

    `per_hour`: the slope of the least-squares line through the second and the last third.
    """

    name: str
    begin: float
    end: float
    most: float
    median_first: float
    median_second: float
    median_last: float
    per_hour: float
    second: float
    last: float
    limit: float

    @property
    def steady(self) -> bool:
        return self.last <= self.limit


def judge(at_s: Sequence[float], values: Mapping[str, Sequence[float]]) -> list[Finding]:
    """A finding per rule. Raises ValueError for too few samples, KeyError where a figure was not sampled."""
    if len(at_s) < FEWEST:
        raise ValueError(f"{len(at_s)} samples: at least {FEWEST} are needed")
    return [_finding(name, rule, at_s, values[name]) for name, rule in RULES.items()]


def _finding(name: str, rule: Level | Count, at_s: Sequence[float], values: Sequence[float]) -> Finding:
    a, b = len(values) // 3, 2 * len(values) // 3
    parts = (values[:a], values[a:b], values[b:])
    medians = [float(median(part)) for part in parts]
    if isinstance(rule, Level):
        second, last = medians[1], medians[2]
        limit = second * rule.ratio + rule.slack
    else:
        second, last = max(parts[1]), max(parts[2])
        limit = second + rule.allowed
    slope = float(np.polyfit(np.asarray(at_s[a:]) - at_s[a], np.asarray(values[a:]), 1)[0])
    return Finding(
        name=name,
        begin=values[0],
        end=values[-1],
        most=max(values),
        median_first=round(medians[0], 2),
        median_second=round(medians[1], 2),
        median_last=round(medians[2], 2),
        per_hour=round(slope * 3600, 2),
        second=round(second, 2),
        last=round(last, 2),
        limit=round(limit, 2),
    )
