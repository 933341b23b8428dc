"""The worker process as a supervisor sees it: health, SIGTERM, exit status. Everything is real but the arithmetic."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from streams.errors import Unavailable
from streams.messages import SessionKey, chunk_headers, end_headers
from tests.servers.kafka import Broker, free_ports
from tests.workers.engines import WAITS
from workers.ask import ask_health
from workers.exits import Exit
from workers.kafka_admin import create_topics
from workers.settings import Settings

CODE = (
    "from workers.settings import load_settings; from workers.service import run_worker; "
    "raise SystemExit(run_worker(load_settings()))"
)


@contextlib.contextmanager
def worker(first: str = "", **settings: Any) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EUREKA_")}
    environment |= {
        "EUREKA_" + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", first + CODE],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
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


def worker_settings(kafka: Broker, prefix: str, **more: Any) -> dict[str, Any]:
    """Settings of a worker with its topics made and its health endpoint on."""
    settings: dict[str, Any] = kafka.settings | {
        "brokers": kafka.address,
        "topic_prefix": prefix,
        "group_id": prefix,
        "chunk_partitions": 2,
        "result_partitions": 1,
        "engine_factory": "tests.workers.engines:Hashing",
        "engine_args": {},
        "drain_grace_s": 5.0,
        "health_port": free_ports(1)[0],
        **more,
    }
    asyncio.run(create_topics(Settings(**settings)))
    return settings


def send_a_window(settings: dict[str, Any], sample: int) -> None:
    """A session of two seconds with one scene window; `Hashing` does with it what its samples say."""
    audio = np.full(32_000, sample, "<i2").tobytes()
    key = SessionKey("default", "s", "u")

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings["brokers"], max_batch_size=1)
        await producer.start()
        topic = Settings(**settings).topics.chunks
        headers = chunk_headers(key, 0, 0, "audio/x-raw;format=S16LE;rate=16000;channels=1", source="t")
        await producer.send_and_wait(topic, audio, key=b"s", partition=0, headers=headers)
        end = end_headers(key, 1, source="t")
        await producer.send_and_wait(topic, b"", key=b"s", partition=0, headers=end)
        await producer.stop()

    asyncio.run(send())


def until(settings: dict[str, Any], question: str, **wanted: Any) -> dict[str, Any]:
    """Ask until the answer has what is wanted."""
    deadline_s = time.monotonic() + 60
    while True:
        answer = {}
        with contextlib.suppress(Unavailable):
            answer = ask_health(Settings(**settings), question)
        if all(answer.get(name) == value for name, value in wanted.items()):
            return answer
        assert time.monotonic() < deadline_s, answer
        time.sleep(0.05)


BUSY = [{"device": "auto", "state": "busy"}]


def test_ready_then_sigterm_ends_cleanly(kafka: Broker, database_url: str, topic_prefix: str) -> None:
    settings = worker_settings(kafka, topic_prefix)
    partitions = ["%saudio.chunks-%d" % (topic_prefix, n) for n in range(2)]
    with worker(**settings, database_url=database_url) as process:
        until(settings, "live", ok=True)
        said = lines(process)
        ready = next(line for line in said if line["message"] == "worker ready")
        assert ready["partitions"] == partitions
        assert until(settings, "ready", ok=True)["partitions"] == partitions
        process.send_signal(signal.SIGTERM)
        rest = [line["message"] for line in said]
        assert process.wait(30) == Exit.CLEAN
    assert "draining" in rest
    assert rest[-1] == "worker stopped"


def test_a_grace_that_is_over_has_a_status_of_its_own(
    kafka: Broker, database_url: str, topic_prefix: str
) -> None:
    settings = worker_settings(kafka, topic_prefix, drain_grace_s=0.5, engine_deadline_s=600.0)
    with worker(**settings, database_url=database_url) as process:
        until(settings, "ready", ok=True)
        send_a_window(settings, WAITS)
        until(settings, "ready", devices=BUSY)
        process.send_signal(signal.SIGTERM)
        said = list(lines(process))
        assert process.wait(30) == Exit.UNFINISHED
    assert said[-1]["message"] == "worker stopped before all was finished"


def test_a_process_that_hangs_while_it_closes_is_gone_in_time(
    kafka: Broker, database_url: str, topic_prefix: str
) -> None:
    settings = worker_settings(kafka, topic_prefix, drain_grace_s=1.0, stop_limit_s=1.0)
    code = (
        "import time, workers.publisher\n"
        "async def hangs(self): time.sleep(600)\n"  # the event loop itself hangs
        "workers.publisher.Publisher.close = hangs\n"
    )
    with worker(code, **settings, database_url=database_url) as process:
        until(settings, "ready", ok=True)
        process.send_signal(signal.SIGTERM)
        said = list(lines(process))
        assert process.wait(30) == Exit.UNFINISHED
    assert (said[-1]["message"], said[-1]["reason"]) == ("worker ended in haste", "asked to end")


IMPATIENT = {
    "request_timeout_s": 4.0,
    "session_timeout_s": 4.0,
    "heartbeat_interval_s": 0.5,
    "assign_timeout_s": 3.9,
    "rebalance_timeout_s": 4.0,
    "stall_after_s": 8.5,
}


def test_a_worker_whose_event_loop_stands_still_ends(
    kafka: Broker, database_url: str, topic_prefix: str
) -> None:
    if not kafka.is_kafka:
        pytest.skip("a short session timeout needs Apache Kafka")
    settings = worker_settings(kafka, topic_prefix, **IMPATIENT)
    code = (
        "import time, workers.app\n"
        "def hangs(self, tp): time.sleep(600)\n"
        "workers.app.Edge._report_end = hangs\n"
    )
    with worker(code, **settings, database_url=database_url) as process:
        said = [line["message"] for line in lines(process)]
        assert process.wait(60) == Exit.STALLED
    assert said[-1] == "the event loop stands still"


def rename_database(url: str, old: str, new: str) -> None:
    """Take a database away from whoever uses it, or give it back."""

    async def rename() -> None:
        connection = await asyncpg.connect(url)
        try:
            while True:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", old
                )
                with contextlib.suppress(asyncpg.ObjectInUseError):
                    return await connection.execute(f"ALTER DATABASE {old} RENAME TO {new}")
        finally:
            await connection.close()

    asyncio.run(rename())


def captions(url: str) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM captions"))
        finally:
            await connection.close()

    return asyncio.run(count())


def test_a_worker_without_its_database_is_live_not_ready_and_goes_on_when_it_is_back(
    kafka: Broker, database_url: str, postgres_server: str, topic_prefix: str
) -> None:
    if not kafka.is_kafka:
        pytest.skip("a short session timeout needs Apache Kafka")
    quick = {"health_silence_s": 1.0, "publish_timeout_s": 1.0, "sweep_interval_s": 0.2, "retry_max_s": 0.5}
    settings = worker_settings(kafka, topic_prefix, **IMPATIENT, **quick)
    name = database_url.partition("?")[0].rpartition("/")[2]
    with worker(**settings, database_url=database_url) as process:
        until(settings, "ready", ok=True)
        rename_database(postgres_server, name, name + "_away")
        try:
            send_a_window(settings, 5)
            until(settings, "ready", ok=False, reasons=["the database has not answered lately"])
            said, waits = lines(process), 0
            while waits < 15:  # at 0.5 s each: for longer than `stall_after_s`
                waits += next(said)["message"] == "waiting for a dependency"
            assert ask_health(Settings(**settings), "live")["ok"]
        finally:
            rename_database(postgres_server, name + "_away", name)
        until(settings, "ready", ok=True)
        deadline_s = time.monotonic() + 60
        while captions(database_url) != 1:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        messages = [line["message"] for line in said]
        assert process.wait(30) == Exit.CLEAN
    assert messages[-1] == "worker stopped"


def test_a_worker_that_stands_still_ends_and_says_why(
    kafka: Broker, database_url: str, topic_prefix: str
) -> None:
    if not kafka.is_kafka:
        pytest.skip("a short session timeout needs Apache Kafka")
    settings = worker_settings(kafka, topic_prefix, engine_deadline_s=600.0, **IMPATIENT)
    with worker(**settings, database_url=database_url) as process:
        until(settings, "ready", ok=True)
        send_a_window(settings, WAITS)
        said = list(lines(process))
        assert process.wait(60) == Exit.STALLED
    ended = next(line for line in said if line["message"] == "worker ended")
    assert "1 windows at the engine" in ended["reason"]


def test_settings_that_no_waiting_cures_end_it_before_anything_is_waited_for(tmp_path: Path) -> None:
    """A checkpoint that is not there used to be tried three times, and to end as a dependency that is away."""
    url = "postgresql://nobody:canary@127.0.0.1:1/none"
    nowhere = str(tmp_path / "nowhere.safetensors")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"database_url": url, "checkpoint": nowhere}, "checkpoint: %s is not there" % nowhere),
        (
            {"database_url": url.replace("postgresql", "mysql")},
            "the database URL does not begin with postgresql://",
        ),
        ({}, "no database: set DATABASE_URL, for example postgresql://user@host/eureka"),
    ]
    for settings, reason in wrong:
        with worker(**settings) as process:
            (said,) = lines(process)
            assert process.wait(30) == Exit.FAILED
        assert (said["message"], said["reason"], said["status"]) == ("worker ended", reason, Exit.FAILED)


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
        assert brokerless.wait(30) == Exit.UNAVAILABLE
        said = list(lines(storeless))
        assert storeless.wait(30) == Exit.UNAVAILABLE
    assert last["message"] == "worker ended"
    assert last["reason"].startswith("no broker at %s" % broker)
    assert said[-1]["message"] == "worker ended"
    assert "canary" not in json.dumps(said)
