"""One worker process of the fault tests: its log, its memory, its end.

In: an environment and a file for the log. Out: the process of `tests.faults.worker`. Knows no database and no broker.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]


class Worker:
    """One worker process, its log and its memory."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.peak_rss_mb = 0.0
        self._offset = log.stat().st_size if log.exists() else 0
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=ROOT,
            )

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        """Be sure that it is gone."""
        if self.status is None:
            self.process.kill()
        self.process.wait()

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far."""
        with self.log.open("rb") as source:
            source.seek(self._offset)
            found = source.read().decode(errors="replace").splitlines()
        return [json.loads(line) for line in found if line.startswith("{") and line.endswith("}")]

    def said(self, message: str) -> int:
        """How many lines of its log have this message."""
        return sum(line.get("message") == message for line in self.lines())

    def rss_mb(self) -> float:
        """Resident memory now, 0 when it is gone; the peak is kept."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return 0.0
        found = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if "VmHWM" not in found:
            return 0.0
        self.peak_rss_mb = max(self.peak_rss_mb, int(found["VmHWM"].split()[0]) / 1024)
        return int(found["VmRSS"].split()[0]) / 1024
