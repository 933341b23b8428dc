"""`python -m tests.faults`: every row of the fault table on real Apache Kafka, PostgreSQL and worker processes.

In: rows and seeds. Out: a line per run on standard error, a JSON report, a Markdown table on standard output; status 1
when a row failed. A failure prints the row, the seed and the last lines of the workers' logs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.rows import ROWS, Result, play
from tests.faults.stage import open_stage


def main() -> int:
    """Run what is asked for; 0 when all of it passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", action="append", choices=sorted(ROWS), help="only this one; may be repeated")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--outage-s", type=float, default=8.0, help="how long PostgreSQL is away in its row")
    parser.add_argument("--json", type=Path, default=Path("build/faults.json"), help="where the report goes")
    args = parser.parse_args()
    seeds = [int(part) for part in args.seeds.split(",")]
    results: list[Result] = []
    began_s = time.monotonic()
    with open_stage() as stage:
        for name in args.row or ROWS:
            for seed in seeds:
                results.append(play(stage, name, seed, args.outage_s))
                say(results[-1])
                report = summary(results, time.monotonic() - began_s)
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0 if all(row["passed"] == row["total"] for row in report["rows"]) else 1


def say(result: Result) -> None:
    """One line, and the reason of a failure."""
    state = "passed" if result.passed else "not run" if result.impossible else "FAILED"
    print(
        f"{result.row} seed {result.seed}: {state} in {result.took_s:.0f} s {result.notes.more or ''}",
        file=sys.stderr,
    )
    if reason := result.error or result.impossible:
        again = f"python -m tests.faults --row {result.row} --seeds {result.seed}"
        print(f"{reason}\nagain: {again}", file=sys.stderr, flush=True)


def summary(results: Sequence[Result], took_s: float) -> dict[str, Any]:
    """The report: totals per row, and every run."""
    rows = []
    for name in dict.fromkeys(result.row for result in results):
        found = [result for result in results if result.row == name]
        ran = [result for result in found if not result.impossible]
        recovery_s = sorted(s for result in ran for s in result.notes.recovery_s)
        figures = ("expected", "found", "missing", "different", "duplicates", "leaked", "dead", "dead_wrong")
        rows.append(
            {
                "row": name,
                "fault": ROWS[name].fault,
                "passed": sum(result.passed for result in ran),
                "total": len(ran),
                "seeds": [result.seed for result in found],
                **{figure: sum(getattr(result.verdict, figure) for result in ran) for figure in figures},
                "recovery_p50_s": _quantile(recovery_s, 0.5),
                "recovery_p99_s": _quantile(recovery_s, 0.99),
                "recoveries": len(recovery_s),
                "peak_rss_mb": round(max((result.notes.peak_rss_mb for result in ran), default=0.0)),
                "crash_points_hit": sum(result.notes.hit for result in ran),
                "crash_points_declared": sum(result.notes.declared for result in ran),
                "worker_restarts": sum(result.notes.restarts for result in ran),
                "not_run": next((result.impossible for result in found if result.impossible), None),
            }
        )
    return {
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "took_s": round(took_s),
        "runs_per_minute": round(60 * len(results) / max(took_s, 1.0), 2),
        "rows": rows,
        "runs": [_told(result) for result in results],
    }


def table(report: dict[str, Any]) -> str:
    """The report for people, in Markdown."""
    head = "| fault | passed | rows expected | found | missing | twice | dead | recovery p50 / p99 | RSS | points |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|"]
    for row in report["rows"]:
        recovery = "–"
        if row["recoveries"]:
            recovery = f"{row['recovery_p50_s']:.1f} / {row['recovery_p99_s']:.1f} s"
        points = "–"
        if row["crash_points_declared"]:
            points = f"{row['crash_points_hit']}/{row['crash_points_declared']}"
        cells = [
            row["fault"],
            f"{row['passed']}/{row['total']}" if row["total"] else f"not run: {row['not_run']}",
            *(row[name] for name in ("expected", "found", "missing", "duplicates", "dead")),
            recovery,
            f"{row['peak_rss_mb']} MB",
            points,
        ]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _told(result: Result) -> dict[str, Any]:
    told = asdict(result)
    told["passed"] = result.passed
    return told


def _quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share does not exceed."""
    if not values:
        return None
    return round(values[min(len(values) - 1, int(share * len(values)))], 2)


if __name__ == "__main__":
    raise SystemExit(main())
