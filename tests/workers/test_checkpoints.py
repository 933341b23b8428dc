"""The folder of promotions, and a worker that follows it: at its start, at work, and after it was killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from streams.errors import Unavailable
from streams.messages import SessionKey, chunk_headers, end_headers
from tests.servers.kafka import Broker
from tests.workers.test_pool import until as pool_until
from tests.workers.test_service import IMPATIENT, until, worker, worker_settings
from workers import checkpoints, doctor
from workers.checkpoints import Promotion
from workers.pool import EnginePool
from workers.settings import Settings
from workers.swap import Swapper
from workers.telemetry import Telemetry


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(folder: Path, says: str) -> Path:
    path = folder / (says.replace(" ", "-") + ".weights")
    path.write_text(says)
    return path


def promote(folder: Path, source: Path, why: str = "gate") -> Promotion:
    version = source.read_text().split()[0]
    return checkpoints.promote(folder, source, digest, digest(source), "hashing", version, why)


def test_what_is_promoted_last_counts_and_the_way_back_is_short(tmp_path: Path) -> None:
    folder = tmp_path / "promoted"
    assert checkpoints.promoted(folder) is checkpoints.promoted(None) is None
    with pytest.raises(Unavailable, match="no previous promotion"):
        checkpoints.go_back(tmp_path)
    first, second = (promote(folder, weights(tmp_path, says)) for says in ("1", "2"))
    assert checkpoints.promoted(folder) == second
    assert second.path_in(folder).read_text() == "2"
    third = promote(folder, weights(tmp_path, "3"))
    assert checkpoints.go_back(folder).sha256 == second.sha256
    promote(folder, weights(tmp_path, "2"), "again")
    assert checkpoints.go_back(folder).sha256 == first.sha256
    with pytest.raises(Unavailable, match="no previous promotion"):
        checkpoints.go_back(folder)
    assert [p.why for p in checkpoints.history(folder)] == ["gate"] * 3 + ["previous", "again", "previous"]
    promote(folder, weights(tmp_path, "2"))
    first.path_in(folder).write_text("longer")
    assert "has 6 bytes, not 1" in checkpoints.trouble(folder, first)
    with pytest.raises(Unavailable, match="has 6 bytes, not 1"):
        checkpoints.go_back(folder)
    again = promote(folder, weights(tmp_path, "1"))  # a damaged copy is made anew
    assert again.path_in(folder).read_text() == "1"
    renamed = weights(tmp_path, "1").rename(tmp_path / "renamed.weights")
    assert promote(folder, renamed).file == first.file  # which others may be reading
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [".lock", "promoted.json", *(p.sha256[:16] for p in (first, second, third))]
    )


def test_the_doctor_shows_what_is_promoted_and_what_is_missing(tmp_path: Path) -> None:
    def look(settings: Settings) -> tuple[str, str]:
        ((_, state, detail),) = [(f.name, f.state, f.detail) for f in doctor._promoted(settings)]
        return state, detail

    settings = Settings(checkpoints_dir=tmp_path / "promoted")
    assert doctor._promoted(Settings()) == []
    assert look(settings) == ("ok", "none in %s: the setting's runs" % settings.checkpoints_dir)
    promotion = promote(tmp_path / "promoted", weights(tmp_path, "1"))
    state, detail = look(settings)
    assert (state, detail.startswith("hashing 1 since ")) == ("ok", True)
    assert "running: not known (no health endpoint" in detail
    promotion.path_in(tmp_path / "promoted").unlink()
    assert look(settings) == ("missing", "%s is not on this machine" % promotion.file)
    (tmp_path / "promoted" / "promoted.json").write_text("{")
    assert look(settings)[0] == "missing"


def test_a_copy_that_is_not_what_was_measured_is_not_promoted(tmp_path: Path) -> None:
    source = weights(tmp_path, "1")
    with pytest.raises(Unavailable, match="the copy has SHA-256"):
        checkpoints.promote(tmp_path / "p", source, digest, "0" * 64, "m", "1", "gate")
    assert checkpoints.promoted(tmp_path / "p") is None
    assert [p.name for p in (tmp_path / "p").iterdir()] == [".lock"]


OUTSIDE = json.dumps(
    {
        "format": checkpoints.FORMAT,
        "promotions": [asdict(Promotion("../x", "0" * 64, 1, "m", "1", "now", "gate"))],
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format": "other", "promotions": []}',
        '{"format": "eureka-promotions-1", "promotions": [{}]}',
        OUTSIDE,
    ],
)
def test_a_list_that_is_damaged_or_leads_out_of_its_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "promoted.json").write_text(text)
    with pytest.raises(Unavailable, match="cannot be read"):
        checkpoints.promoted(tmp_path)


KEY = SessionKey("default", "s", "u")


def send(settings: dict[str, Any], sequence: int, seconds: int, *, last: bool = False) -> None:
    """One more second of noise at a time, so many; `last` ends the session."""
    noise = np.random.default_rng(5).integers(-3000, 3000, 16_000).astype("<i2").tobytes()
    topic = Settings(**settings).topics.chunks

    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings["brokers"], max_batch_size=1)
        await producer.start()
        for n in range(sequence, sequence + seconds):
            content = "audio/x-raw;format=S16LE;rate=16000;channels=1"
            headers = chunk_headers(KEY, n, n * 16_000, content, source="t")
            await producer.send_and_wait(topic, noise, key=b"s", partition=0, headers=headers)
        if last:
            end = end_headers(KEY, sequence + seconds, source="t")
            await producer.send_and_wait(topic, b"", key=b"s", partition=0, headers=end)
        await producer.stop()

    asyncio.run(produce())


def captions(url: str, wanted: int) -> list[tuple[int, str, str]]:
    """Start, model and version of the captions in their order, once there are so many; events must agree."""

    async def ask() -> list[tuple[int, str, str]]:
        connection = await asyncpg.connect(url)
        try:
            async with asyncio.timeout(60):
                query = "SELECT start_ms, model->>'name', model->>'version' FROM {} ORDER BY start_ms"
                while len(rows := await connection.fetch(query.format("captions"))) < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            events = await connection.fetch(query.format("events WHERE source = 'model'"))
            assert [tuple(row) for row in events] == [tuple(row) for row in rows]
            assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
            return [tuple(row) for row in rows]
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_a_worker_follows_promotions_in_the_middle_of_a_stream_and_after_a_crash(
    kafka: Broker, database_url: str, topic_prefix: str, tmp_path: Path
) -> None:
    folder, base = tmp_path / "promoted", weights(tmp_path, "1")
    settings = worker_settings(
        kafka,
        topic_prefix,
        engine_factory="tests.workers.engines:Versioned",
        engine_args={"checkpoint_path": str(base)},
        engine_starts=1,
        checkpoints_dir=str(folder),
        checkpoint_poll_s=0.1,
        checkpoint_retry_s=0.1,
        checkpoint_attempts=2,
        scene_hop_s=2.0,
        idle_flush_s=600.0,
        **(IMPATIENT if kafka.is_kafka else {}),
    )
    with worker(**settings, database_url=database_url) as process:
        running = until(settings, "ready", ok=True)["checkpoint"]
        assert (running["version"], running["promoted"], running["state"]) == ("1", None, "current")
        send(settings, 0, 6)
        captions(database_url, 2)
        promote(folder, weights(tmp_path, "2"))
        until_checkpoint(settings, version="2", state="current")
        send(settings, 6, 4)
        captions(database_url, 4)
        promote(folder, weights(tmp_path, "3 fails"))
        until_checkpoint(settings, version="2", state="given up", attempts=2)
        promote(folder, weights(tmp_path, "4"))
        process.send_signal(signal.SIGKILL)  # before it can have swapped, or in the middle of it
    send(settings, 10, 4)
    with worker(**settings, database_url=database_url):
        until_checkpoint(settings, version="4", state="current")
        send(settings, 14, 2, last=True)
        rows = captions(database_url, 8)
    assert [start_ms for start_ms, *_ in rows] == list(range(0, 16_000, 2000))
    assert {name for _, name, _ in rows} == {"hashing"}
    versions = [version for *_, version in rows]
    assert versions[:2] == ["1", "1"]
    assert versions[3] == "2"
    assert versions[-3:] == ["4", "4", "4"]
    assert versions == sorted(versions)


async def test_where_the_promoted_checkpoint_does_not_start_the_one_before_runs(tmp_path: Path) -> None:
    folder = tmp_path / "promoted"
    for says in ("1", "2 fails", "3 fails"):
        promote(folder, weights(tmp_path, says))
    settings = Settings(
        engine_factory="tests.workers.engines:Versioned",
        engine_args={},
        engine_starts=1,
        checkpoints_dir=folder,
        checkpoint_poll_s=0.01,
        checkpoint_attempts=2,
        checkpoint_retry_s=0.01,
    )
    swapper = Swapper(settings, Telemetry.off())
    pool = await swapper.start(EnginePool)
    watching = asyncio.create_task(swapper.watch())
    try:
        assert (swapper.state()["version"], swapper.state()["promoted"]) == ("1", "3")
        await pool_until(lambda: swapper.state()["state"] == "given up")
        checkpoints.go_back(folder)
        await pool_until(lambda: (swapper.state()["promoted"], swapper.state()["state"]) == ("2", "given up"))
        checkpoints.go_back(folder)
        await pool_until(lambda: not swapper.behind)
        assert swapper.state()["attempts"] == 0
        (folder / "promoted.json").write_text("{")
        await pool_until(lambda: not swapper.state()["promotions_readable"])
        assert pool.warm
    finally:
        watching.cancel()
        await pool.close()


def until_checkpoint(settings: dict[str, Any], **wanted: Any) -> None:
    """Ask the worker until it says so of its checkpoint."""
    deadline_s = time.monotonic() + 60
    while True:
        seen = until(settings, "ready", ok=True)["checkpoint"]
        if all(seen[name] == value for name, value in wanted.items()):
            return
        assert time.monotonic() < deadline_s, seen
        time.sleep(0.05)
