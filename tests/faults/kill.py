"""Kill -9 of the worker at seeded points, on real Kafka and PostgreSQL with the real engine: what are the rows then?

Two runs over the same audio and the same session ids: one undisturbed, one in which the worker is killed each time the
number of rows in the database reaches the next seeded mark (plus a seeded moment), and started again. `compare` reads
both databases with plain SQL and shares no code with `storage`.

    python -m tests.faults.kill --points 20 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np

from storage.embedded import embedded_postgres
from storage.migrate import upgrade
from tests.servers.kafka import KafkaServer, kafka_missing
from workers.kafka_admin import create_topics
from workers.recordings import obtain, read_audio, write_wav
from workers.send import send_stream
from workers.settings import Settings

WAIT_S = 240.0
CODE = (
    "from workers.settings import load_settings; from workers.service import run_worker; "
    "raise SystemExit(run_worker(load_settings()))"
)
RESULTS = {
    "transcripts": "stream_id, session_id, channel, start_sample, end_sample, text",
    "captions": "stream_id, session_id, channel, start_sample, end_sample, text",
    "events": "stream_id, session_id, channel, start_sample, end_sample, event_type, label",
    "gaps": "stream_id, session_id, first_sequence, last_sequence, start_sample, end_sample",
    "dead_letters": 'topic, "partition", "offset", reason',
}


@dataclass(frozen=True)
class Stream:
    """One stream to send: the same name and session in both runs."""

    path: Path
    name: str
    session_id: str
    content_type: str


@dataclass
class Report:
    """What the comparison found."""

    seed: int
    kills: int
    rows: dict[str, int]
    missing: int
    different: int
    duplicates: int
    unpublished: int
    recovery_s: list[float]

    @property
    def passed(self) -> bool:
        return not (self.missing or self.different or self.duplicates or self.unpublished)


def make_streams(folder: Path, recordings: Path, seconds: float) -> list[Stream]:
    """Three streams of real speech with pauses and music: a two-channel µ-law call, FLAC, raw S16LE."""
    found = obtain(recordings, lambda _: None)
    rng = np.random.default_rng(7)
    tracks = []
    names = [s for s in found.speech if s.voice == "prompt"] or list(found.speech)
    for first in range(4):
        pieces: list[np.ndarray] = []
        length = 0
        turn = first
        while length < seconds * 16_000:
            speech = read_audio(Path(names[turn % len(names)].audio))
            pause = rng.normal(0, 15, int(rng.uniform(0.7, 2.5) * 16_000)).astype(np.int16)
            pieces += [speech, pause]
            length += len(speech) + len(pause)
            turn += 4
        if first == 1 and found.music:
            pieces.insert(2, read_audio(Path(found.music[0]))[: 8 * 16_000])
        tracks.append(np.concatenate(pieces)[: int(seconds * 16_000)])
    call, wide, raw = folder / "call.wav", folder / "wide.wav", folder / "raw.wav"
    write_wav(call, np.stack([tracks[0][::2], tracks[1][::2]]), 8_000)
    write_wav(wide, tracks[2])
    write_wav(raw, tracks[3])
    session = "00000000-0000-4000-8000-00000000000%d"
    return [
        Stream(call, "call", session % 1, "audio/PCMU"),
        Stream(wide, "wide", session % 2, "audio/flac"),
        Stream(raw, "raw", session % 3, "audio/x-raw;format=S16LE"),
    ]


def run(
    brokers: str,
    url: str,
    prefix: str,
    streams: Sequence[Stream],
    marks: Sequence[int],
    seed: int,
    **extra: Any,
) -> list[float]:
    """Send all streams at once and work through them, killing the worker at every mark; recovery times, s."""
    settings = {
        "brokers": brokers,
        "topic_prefix": prefix,
        "group_id": prefix + "workers",
        "chunk_partitions": 2,
        "result_partitions": 2,
        "session_timeout_s": 6.0,
        "heartbeat_interval_s": 1.0,
        "sweep_interval_s": 1.0,
        "sweep_older_than_s": 1.0,
        **extra,
    }
    asyncio.run(upgrade(url))
    asyncio.run(create_topics(Settings(**settings)))
    for stream in streams:
        send_stream(
            Settings(**settings),
            stream.path,
            stream_id=stream.name,
            content_type=stream.content_type,
            speed=None,
            session_id=stream.session_id,
        )
    rng = random.Random(seed)
    recovery_s = []
    for mark in [*marks, None]:
        with tempfile.TemporaryFile() as log:
            worker = start_worker(url, settings, log)
            started_s = time.monotonic()
            try:
                before = asyncio.run(_rows(url))
                if mark is None:
                    asyncio.run(_until(url, "settled", partial(_settled, streams=len(streams)), worker, log))
                    return recovery_s
                goal = max(mark, before + 1)
                asyncio.run(
                    _until(
                        url, f"{goal} rows", partial(_at_least, goal=goal, streams=len(streams)), worker, log
                    )
                )
                recovery_s.append(time.monotonic() - started_s)
                time.sleep(rng.uniform(0.0, 0.3))  # the seeded moment of the blow, not a wait for a state
            finally:
                worker.kill()
                worker.wait()
    return recovery_s


def start_worker(url: str, settings: dict[str, Any], log: Any) -> subprocess.Popen[bytes]:
    """`eureka worker` with these settings, and the database's address in the environment, where secrets belong."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EUREKA_")}
    environment |= {
        "EUREKA_" + k.upper(): v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()
    }
    environment["DATABASE_URL"] = url
    return subprocess.Popen(
        [sys.executable, "-c", CODE], env=environment, stderr=log, stdin=subprocess.DEVNULL
    )


def compare(calm_url: str, struck_url: str, seed: int, recovery_s: list[float]) -> Report:
    """Both databases row by row."""
    return asyncio.run(_compare(calm_url, struck_url, seed, recovery_s))


async def _compare(calm_url: str, struck_url: str, seed: int, recovery_s: list[float]) -> Report:
    calm, struck = await _read(calm_url), await _read(struck_url)
    missing = different = duplicates = 0
    for table in RESULTS:
        expected, found = set(calm[table]), set(struck[table])
        missing += len(expected - found)
        different += len(found - expected)
        duplicates += len(struck[table]) - len(found)
    return Report(
        seed=seed,
        kills=len(recovery_s),
        rows={table: len(rows) for table, rows in struck.items()},
        missing=missing,
        different=different,
        duplicates=duplicates,
        unpublished=await _unpublished(struck_url),
        recovery_s=[round(s, 1) for s in recovery_s],
    )


async def _read(url: str) -> dict[str, list[tuple[Any, ...]]]:
    connection = await asyncpg.connect(url)
    try:
        return {
            table: [tuple(r) for r in await connection.fetch(f"SELECT {columns} FROM {table}")]
            for table, columns in RESULTS.items()
        }
    finally:
        await connection.close()


async def _unpublished(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await _waiting(connection)
    finally:
        await connection.close()


async def _waiting(connection: Any) -> int:
    tables = ("transcripts", "captions", "events", "dead_letters")
    counts = [
        await connection.fetchval(f"SELECT count(*) FROM {table} WHERE published_at IS NULL")
        for table in tables
    ]
    return int(sum(counts))


async def _rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await _count(connection)
    finally:
        await connection.close()


async def _count(connection: Any) -> int:
    return int(
        await connection.fetchval(
            "SELECT (SELECT count(*) FROM transcripts) + (SELECT count(*) FROM captions)"
        )
    )


async def _settled(connection: Any, streams: int) -> bool:
    ended = await connection.fetchval("SELECT count(*) FROM sessions WHERE ended")
    return bool(ended == streams) and await _waiting(connection) == 0


async def _at_least(connection: Any, goal: int, streams: int) -> bool:
    return await _count(connection) >= goal or await _settled(connection, streams)


async def _until(url: str, what: str, true: Any, worker: subprocess.Popen[bytes], log: Any) -> None:
    deadline_s = time.monotonic() + WAIT_S
    connection = await asyncpg.connect(url)
    try:
        while not await true(connection):
            if worker.poll() is not None or time.monotonic() > deadline_s:
                log.seek(0)
                tail = log.read()[-3000:].decode(errors="replace")
                raise RuntimeError(f"{what} not reached, worker status {worker.poll()}:\n{tail}")
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


def seeded_marks(total: int, points: int, seed: int) -> list[int]:
    """Row counts at which to strike."""
    return sorted(random.Random(seed).sample(range(1, max(total, points + 1)), points))


def main() -> int:
    """Both runs, the comparison, and the report as JSON on standard output."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--recordings", type=Path, default=Path("build/recordings"))
    args = parser.parse_args()
    missing = kafka_missing()
    if missing is not None:
        raise SystemExit(f"needs Apache Kafka: {missing}")
    with tempfile.TemporaryDirectory(prefix="eureka-kill-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = KafkaServer(folder)
        server.start()
        try:
            with embedded_postgres(folder / "pg") as url:
                report = strike(
                    server.address, url, folder, args.recordings, args.points, args.seed, args.seconds
                )
        finally:
            server.stop()
    print(json.dumps(asdict(report) | {"passed": report.passed}))
    return 0 if report.passed else 1


def strike(
    brokers: str, url: str, folder: Path, recordings: Path, points: int, seed: int, seconds: float
) -> Report:
    """An undisturbed run and a struck one, each in a database of its own on the server at `url`."""
    streams = make_streams(folder, recordings, seconds)
    calm_url, struck_url = asyncio.run(_databases(url, "calm", "struck"))
    run(brokers, calm_url, f"calm{seed}.", streams, [], seed)
    marks = seeded_marks(asyncio.run(_rows(calm_url)), points, seed)
    recovery_s = run(brokers, struck_url, f"struck{seed}.", streams, marks, seed)
    return compare(calm_url, struck_url, seed, recovery_s)


async def _databases(url: str, *names: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        urls = []
        for name in names:
            database = f"kill_{name}_{random.SystemRandom().getrandbits(32):08x}"
            await connection.execute(f"CREATE DATABASE {database}")
            head, _, query = url.partition("?")
            urls.append(head.rsplit("/", 1)[0] + "/" + database + (f"?{query}" if query else ""))
        return urls
    finally:
        await connection.close()


if __name__ == "__main__":
    raise SystemExit(main())
