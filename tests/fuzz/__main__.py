"""Fuzz one target with atheris (extra "fuzz"): `python -m tests.fuzz parse|decode --runs N`.

In: a target, a number of runs, a seed. Out: the number of executions done, as JSON; exit status 0 when nothing but
Reject came out, no run took longer than 20 s and memory stayed below the limit. What breaks is written to build/fuzz;
inputs that reach something new are collected there too, tests/fuzz/corpus is only read.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
RSS_LIMIT_MB = 1024
RUN_LIMIT_S = 20
COUNTED = "stat::number_of_executed_units:"


def main() -> int:
    """Start the fuzzing process below a memory limit, count what it did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=["parse", "decode"])
    parser.add_argument("--runs", type=int, default=100_000, help="Executions.")
    parser.add_argument("--seed", type=int, default=1, help="The same seed and corpus: the same inputs.")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.inside:
        fuzz(args.target, rest)
    found = ROOT / "build" / "fuzz" / args.target
    found.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "tests.fuzz", args.target, "--inside",
        "-runs=%d" % args.runs, "-seed=%d" % args.seed, "-max_len=4096", "-timeout=%d" % RUN_LIMIT_S,
        "-rss_limit_mb=%d" % RSS_LIMIT_MB, "-print_final_stats=1", "-verbosity=1",
        "-artifact_prefix=%s/broke-" % found, str(found), str(CORPUS / args.target),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    lines = done.stderr.splitlines()
    executed = [int(line.split()[-1]) for line in lines if line.startswith(COUNTED)]
    if done.returncode:
        print("\n".join(lines[-60:]), file=sys.stderr)
    report = {
        "target": args.target,
        "executed": executed[-1] if executed else 0,
        "broke": done.returncode != 0,
        "peak_rss_mb": next((int(x.split()[-1]) for x in lines if x.startswith("stat::peak_rss_mb:")), None),
    }
    print(json.dumps(report))
    return done.returncode


def fuzz(target: str, options: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("eureka fuzz: atheris is not installed: make fuzz installs it")
    with atheris.instrument_imports(include=["streams"]):
        from tests.fuzz.targets import TARGETS
    check = TARGETS[target]

    def one(data: bytes) -> None:
        check(data)

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
