"""Run many seeds of the simulator: `python -m tests.sim --seeds 2000`, or one of them again: `--seed 1234 --trace`.

Out: seeds per minute and how often each misfortune was met; for a seed that fails its findings, the commit and the
command that repeats it. Exit status 1 when one failed.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.sim.check import check
from tests.sim.cluster import Outcome, simulate

SHOWN = 8  # findings of one seed
BATCH = 8  # seeds that a process takes at a time


def misfortunes(outcome: Outcome) -> Counter[str]:
    """How often each kind of entry stands in a history; deaths by the place where they struck."""
    return Counter(
        f"dies {entry[2]}" if entry[0] == "dies" else str(entry[0])
        for entry in outcome.history
        if entry[0] not in ("calm", "mark", "starts", "ended") and entry[2:] != ("ended",)
    )


def _run(seed: int) -> tuple[int, list[str], Counter[str]]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # thousands of warnings about outages
    try:
        outcome = simulate(seed)
    finally:
        logging.disable(before)
    return seed, [str(finding) for finding in check(outcome)], misfortunes(outcome)


def _all(seeds: Iterable[int], jobs: int) -> Iterator[tuple[int, list[str], Counter[str]]]:
    if jobs == 1:
        yield from map(_run, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_run, seeds, chunksize=BATCH)


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    changed = ", with changes that are not committed" if git("status", "--porcelain", "-uno") else ""
    return f"{git('rev-parse', 'HEAD') or 'unknown'}{changed}"


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="print the history of a seed that is run alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run seeds in")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
        if arguments.trace:
            for entry in simulate(arguments.seed).history:
                print(*entry)
    started_s, failed, met = time.monotonic(), 0, Counter[str]()
    for seed, findings, counts in _all(seeds, arguments.jobs):
        met += counts
        if findings:
            failed += 1
            print(f"seed {seed} failed at commit {_commit()}; again: python -m tests.sim --seed {seed}")
            for finding in itertools.islice(findings, SHOWN):
                print(f"  {finding}")
            if len(findings) > SHOWN:
                print(f"  … {len(findings) - SHOWN} more")
            sys.stdout.flush()
    took_s = time.monotonic() - started_s
    for what, times in sorted(met.items()):
        print(f"{times:9}  {what}")
    print(f"{len(seeds)} seeds, {failed} failed, {len(seeds) * 60 / took_s:.0f} seeds per minute")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
