"""A real broker for the tests: Apache Kafka 4 (KRaft, Java 17) on free loopback ports, once per test session.

Where Java or Maven is missing the suite runs on the embedded broker and says what that leaves uncovered; with
CI=true that is an error. `Broker` can be stopped and started again under the same address, which the tests of
outages need.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workers.broker_embedded import EMBEDDED_SETTINGS, embedded_broker

RUN = Path(__file__).parents[2] / "deploy" / "kafka" / "run.sh"
START_TIMEOUT_S = 60.0
FETCH_TIMEOUT_S = 300.0


class KafkaWarning(UserWarning):
    """The suite does not run on Apache Kafka."""


@dataclass(frozen=True)
class Broker:
    """Where the broker is; `settings` are the client settings that it needs."""

    address: str
    is_kafka: bool
    settings: dict[str, Any]


class KafkaServer:
    """One Kafka node that may be stopped and started under the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self._controller = free_ports(2)
        self.address = "127.0.0.1:%d" % self.port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until it takes connections."""
        log = self._folder / "kafka.log"
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [str(RUN), str(self._folder), str(self.port), str(self._controller)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise RuntimeError("Kafka ended at start: %s" % log.read_text(errors="replace")[-2000:])
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError("Kafka did not start in %g s: %s" % (START_TIMEOUT_S, log.read_text()[-2000:]))

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it: SIGKILL is quick and what a crash looks like."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        self._process.wait(30)
        self._process = None


def kafka_missing() -> str | None:
    """What keeps Apache Kafka from running here, None when nothing does."""
    fetched = any((RUN.parents[2] / "build" / "kafka").glob("*/.complete"))
    for program in ("java",) if fetched else ("java", "mvn"):
        if shutil.which(program) is None:
            return "%s is not installed" % program
    with RUN.open() as script:
        fcntl.flock(
            script, fcntl.LOCK_EX
        )  # of two test processes one fetches the jars, the other waits for them
        try:
            subprocess.run(
                [str(RUN), "--fetch", "0", "0"], check=True, capture_output=True, timeout=FETCH_TIMEOUT_S
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            return "its jars could not be fetched (%s)" % type(error).__name__
    return None


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """The session's broker: Apache Kafka, or the embedded one with a warning about what is not covered."""
    missing = kafka_missing()
    if missing is None:
        with tempfile.TemporaryDirectory(prefix="eureka-kafka-") as folder:
            server = KafkaServer(Path(folder))
            try:
                server.start()
                yield Broker(server.address, True, {"session_timeout_s": 6.0, "heartbeat_interval_s": 0.5})
            finally:
                server.stop()
        return
    if os.environ.get("CI") == "true":
        raise RuntimeError("CI requires Apache Kafka: %s" % missing)
    warnings.warn(
        KafkaWarning(
            "NOT ON APACHE KAFKA: %s. The embedded broker stands in; not covered: rebalance between "
            "two workers, idempotent producers, broker restart with data, topic limits, SASL and TLS."
            % missing
        ),
        stacklevel=1,
    )
    with embedded_broker() as address:
        yield Broker(address, False, dict(EMBEDDED_SETTINGS))


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A Kafka of the test's own, not yet started, to be stopped and started at will."""
    missing = kafka_missing()
    if missing is not None:
        pytest.skip("needs Apache Kafka: %s" % missing)
    server = KafkaServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and groups that no other test uses."""
    return "t%s." % uuid.uuid4().hex[:10]


def free_ports(count: int) -> list[int]:
    """Ports free at the time of asking."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
