"""What `eureka demo` runs against: a broker, a database and one worker process, started and stopped in order.

In: settings. Out: a `Running` with the settings that reach these servers. It does not know what is played.
Invariant: whatever was started here is stopped here, and the worker is asked (SIGTERM) before it is made to go.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from storage import migrate
from storage.embedded import embedded_postgres
from streams.errors import Unavailable
from workers.broker_embedded import EMBEDDED_SETTINGS, embedded_broker
from workers.kafka_admin import create_topics
from workers.settings import Settings, load_settings

Say = Callable[[str], None]
READY_LINE = "worker ready"
PARTITIONS = 3


@dataclass(frozen=True)
class Running:
    """What the demo plays against; `name` is unique, `stop_worker` gives the exit status."""

    name: str
    settings: Settings
    database_url: str
    worker: "subprocess.Popen[bytes]"
    worker_log: Path

    def check_alive(self) -> None:
        """Raises Unavailable when the worker has ended by itself."""
        if self.worker.poll() is not None:
            raise Unavailable(
                "the worker ended with status %s\n%s" % (self.worker.returncode, _last(self.worker_log))
            )

    def stop_worker(self) -> int:
        """SIGTERM, then wait for the drain; SIGKILL past its grace."""
        if self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            try:
                self.worker.wait(self.settings.drain_grace_s + 15)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        return self.worker.wait()


@contextmanager
def running(say: Say, run_name: str) -> Iterator[Running]:
    """Start all of it; `run_name` keeps this demo's topics and group apart from others. Raises Unavailable."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eureka-demo-")))
        folder.chmod(0o755)  # as root, PostgreSQL runs under a user of its own
        given = load_settings()
        if given.database_url is not None:
            url = given.database_url.get_secret_value()
            say(
                "database: the one EUREKA_DATABASE_URL or DATABASE_URL names; its schema is brought up to date"
            )
        else:
            url = stack.enter_context(embedded_postgres(folder / "postgres", durable=False))
            say("database: embedded PostgreSQL")
        broker = stack.enter_context(embedded_broker())
        say("broker: embedded, at %s" % broker)
        overrides: dict[str, Any] = EMBEDDED_SETTINGS | {
            "brokers": broker,
            "group_id": "eureka-" + run_name,
            "topic_prefix": run_name + ".",
            "chunk_partitions": PARTITIONS,
            "result_partitions": PARTITIONS,
        }
        settings = load_settings(database_url=SecretStr(url), **overrides)
        asyncio.run(_prepare(settings, url))
        log = folder / "worker.log"
        say("worker: starting (one process for Kafka and Postgres, one for the model)")
        worker = stack.enter_context(_worker(overrides, url, log))
        run = Running(run_name, settings, url, worker, log)
        stack.callback(run.stop_worker)
        _wait_until_ready(run)
        say("worker: ready")
        yield run


async def _prepare(settings: Settings, url: str) -> None:
    await migrate.upgrade(url)
    await create_topics(settings)


@contextmanager
def _worker(overrides: dict[str, Any], url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The child; its settings go by environment, never in its arguments."""
    environment = {"EUREKA_" + name.upper(): str(value) for name, value in overrides.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            env=os.environ | environment | {"EUREKA_DATABASE_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then asks the worker
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_ready(run: Running) -> None:
    """Wait for the worker's own word that it reads its partitions."""
    limit_s = run.settings.engine_warm_up_s + run.settings.assign_timeout_s
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        run.check_alive()
        if any(
            _message(line) == READY_LINE for line in run.worker_log.read_text(errors="replace").splitlines()
        ):
            return
        time.sleep(0.1)
    raise Unavailable("the worker was not ready within %.0f s\n%s" % (limit_s, _last(run.worker_log)))


def _message(line: str) -> str | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content.get("message") if isinstance(content, dict) else None


def _last(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
