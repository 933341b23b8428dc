"""A PostgreSQL of a test's own that can be stopped, killed and started again under the same address.

In: a folder; binaries and settings of another PostgreSQL than the embedded one, if any. Out: a URL over a Unix socket.
`storage.embedded` gives binaries, OS user and the way to make the data folder; that server goes with its caller, this
one goes and comes at will. Invariant: commits survive a kill of the server (only the machine must not die: nothing is
flushed to the disk).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from storage import embedded

START_TIMEOUT_S = 60.0
URL = "postgresql://eureka@/postgres?host=%s"


class PostgresServer:
    """One server; `folder` must be one that the OS user of the server can enter.

    `settings` are more of postgresql.conf; `hba` stands in for the pg_hba.conf that trusts whoever reaches the socket.
    """

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        hba: str | None = None,
    ) -> None:
        self.account = embedded._account()
        self._binaries = binaries or embedded._reachable_binaries(self.account)
        self._settings = {
            "listen_addresses": "",
            "max_connections": "60",
            "fsync": "off",
            "full_page_writes": "off",
        } | dict(settings or {})
        self._folder = folder
        self._data, self.sockets = folder / "data", folder / "sockets"
        self._log = folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._hba = hba
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        self._make_data()
        self.give(self.sockets)

    @property
    def url(self) -> str:
        """Of the maintenance database."""
        return URL % self.sockets

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def give(self, folder: Path) -> None:
        """Make a folder that only the server's OS user may use."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.account is not None:
            os.chown(folder, self.account.pw_uid, self.account.pw_gid)

    def start(self) -> None:
        """Start and wait until it takes connections; a killed server may hold its memory for a moment yet."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self._launch()
            if self._came_up(deadline_s):
                return
        raise RuntimeError("PostgreSQL did not start: %s" % self._log.read_text(errors="replace")[-2000:])

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL a crash."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        self._process.wait(60)
        self._process = None

    def wipe(self) -> None:
        """Another server under the same address: a kill, and all data is gone."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self._data)
        self._make_data()
        self.start()

    def pause(self) -> None:
        """Answer nobody who connects from now on, nor refuse them, until `resume`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after a `pause`, if there was one."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_data(self) -> None:
        embedded._initialise(self._binaries, self._data, self.account)
        if self._hba is not None:
            (self._data / "pg_hba.conf").write_text(self._hba)

    def _launch(self) -> None:
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        for name, value in (self._settings | {"unix_socket_directories": str(self.sockets)}).items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                embedded._as(self.account, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )

    def _came_up(self, deadline_s: float) -> bool:
        assert self._process is not None
        pid_file = self._data / "postmaster.pid"
        while self._process.poll() is None and time.monotonic() < deadline_s:
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False
