"""Our programs as a supervisor starts them: settings in variables, output caught, nothing of the caller's settings.

In: settings. Out: processes. Knows no broker. Invariant: no value of a setting is ever an argument.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT_S = 90.0


def environment(settings: dict[str, Any]) -> dict[str, str]:
    """The variables of a process with these settings and no others."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EUREKA_", "DATABASE_URL"))}
    return kept | {
        "EUREKA_" + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }


def eureka(settings: dict[str, Any], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One command, to its end; one that does not end fails the test."""
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *arguments],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=LIMIT_S,
    )


@contextlib.contextmanager
def worker(settings: dict[str, Any], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`eureka worker`, its output in `log`; killed at the end if it still runs."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            cwd=ROOT,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def records(log: Path) -> list[dict[str, Any]]:
    """The log's whole lines that are JSON objects."""
    lines = log.read_text(errors="replace").rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"time"')]


def said(log: Path, message: str) -> bool:
    """Whether the worker has said this."""
    return any(record["message"] == message for record in records(log))
