"""The worker process as a supervisor sees it: ready, SIGTERM, exit status. Everything is real but the arithmetic."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.servers.kafka import Broker, free_ports
from workers.kafka_admin import create_topics
from workers.settings import Settings

CODE = (
    "from workers.settings import load_settings; from workers.service import run_worker; "
    "raise SystemExit(run_worker(load_settings()))"
)


@contextlib.contextmanager
def worker(**settings: Any) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EUREKA_")}
    environment |= {
        "EUREKA_" + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CODE], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def lines(process: "subprocess.Popen[str]") -> Iterator[dict[str, Any]]:
    assert process.stderr is not None
    for line in process.stderr:
        yield json.loads(line)  # whatever a worker says is one JSON object per line


def test_ready_then_sigterm_ends_cleanly(kafka: Broker, database_url: str, topic_prefix: str) -> None:
    settings: dict[str, Any] = kafka.settings | {
        "brokers": kafka.address,
        "topic_prefix": topic_prefix,
        "group_id": topic_prefix,
        "chunk_partitions": 2,
        "result_partitions": 1,
        "engine_factory": "tests.workers.engines:Hashing",
        "engine_args": {},
        "drain_grace_s": 5.0,
    }
    asyncio.run(create_topics(Settings(**settings)))
    with worker(**settings, database_url=database_url) as process:
        said = lines(process)
        ready = next(line for line in said if line["message"] == "worker ready")
        assert ready["partitions"] == ["%saudio.chunks-%d" % (topic_prefix, n) for n in range(2)]
        process.send_signal(signal.SIGTERM)
        rest = [line["message"] for line in said]
        assert process.wait(30) == 0
    assert "draining" in rest
    assert rest[-1] == "worker stopped"


def test_what_is_away_at_start_is_named_and_the_status_is_not_zero(database_url: str) -> None:
    broker = "127.0.0.1:%d" % free_ports(1)[0]
    url = "postgresql://nobody:canary@127.0.0.1:%d/none" % free_ports(1)[0]
    with (
        worker(
            brokers=broker, database_url=database_url, broker_attempts=2, broker_retry_s=0.1
        ) as brokerless,
        worker(database_url=url, database_attempts=2) as storeless,
    ):
        *_, last = lines(brokerless)
        assert brokerless.wait(30) == 1
        said = list(lines(storeless))
        assert storeless.wait(30) == 1
    assert last["message"] == "worker ended"
    assert last["reason"].startswith("no broker at %s" % broker)
    assert said[-1]["message"] == "worker ended"
    assert "canary" not in json.dumps(said)
