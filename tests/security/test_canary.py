"""What is said, what is heard and what is secret stays inside, whatever goes wrong and however much is logged.

One real worker on the secure broker, its engine hears a canary phrase in everything, its audio holds canary bytes, its
passwords are canaries; DEBUG logs and spans go to its standard error. Failures are provoked in the engine, the decoder,
the database connection and in a commit. Then its whole output is searched.
"""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import psutil
import pytest
from kafka import KafkaProducer

from streams.messages import SessionKey, chunk_headers, end_headers
from tests.security.clients import records, said, worker
from tests.security.test_kafka import GROUP, ready_kafka, worker_settings
from tests.security.waiting import until
from tests.servers.kafka_tls import PRODUCER, SecureKafka
from tests.sim.scenario import CHUNK, CONTENT, speech_like
from tests.workers.engines import CANARY, RAISES
from workers.settings import Settings, kafka_security

__all__ = ["ready_kafka"]  # the fixture, under the name that pytest looks for

AUDIO_CANARY = b"canary bytes of audio that no log may hold."
DATABASE_WORD = "canary-word-of-the-database"
REFUSE = "ALTER TABLE transcripts ADD CONSTRAINT refused CHECK (text = '') NOT VALID"
STRIKE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eureka'"


def audible_canary(seconds: float, mark: int | None = None) -> np.ndarray:
    """Speech that holds the canary bytes as samples all over, and begins with `mark`."""
    audio = speech_like(np.random.default_rng(11), seconds, 1)[:, 0]
    canary = np.frombuffer(AUDIO_CANARY + b" " * (len(AUDIO_CANARY) % 2), "<i2")
    for at in range(0, len(audio) - len(canary), 800):
        audio[at : at + len(canary)] = canary
    if mark is not None:
        audio[0] = mark
    return audio


class Caller:
    """Sends sessions, good and bad."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._topic = Settings(**settings).topics.chunks
        self._producer = KafkaProducer(
            bootstrap_servers=settings["brokers"], acks="all", **kafka_security(Settings(**settings))
        )

    def session(self, name: str, audio: np.ndarray) -> None:
        key = SessionKey("default", name, "canary")
        starts = range(0, len(audio), CHUNK)
        for sequence, start in enumerate(starts):
            headers = chunk_headers(key, sequence, start, CONTENT % 1, source="/canary")
            self._send(key, audio[start : start + CHUNK].tobytes(), headers)
        self._send(key, b"", end_headers(key, len(starts), source="/canary"))
        self._producer.flush()

    def damaged(self, name: str) -> None:
        """Chunks that cannot be decoded, each in its own way."""
        key = SessionKey("default", name, "canary")
        flac = b"fLaC" + AUDIO_CANARY * 10
        for sequence, (content, value) in enumerate(
            [
                ("audio/flac", flac),
                ("audio/wav", b"RIFF\x00\x10\x00\x00WAVE" + AUDIO_CANARY),
                ("audio/ogg", b"OggS" + AUDIO_CANARY * 3),
                ("audio/mpeg", AUDIO_CANARY * 40),
                ("audio/x-unheard-of", AUDIO_CANARY),
                (CONTENT % 1, AUDIO_CANARY[:41]),
            ]
        ):
            self._send(key, value, chunk_headers(key, sequence, 0, content, source="/canary"))
        self._send(key, AUDIO_CANARY, [("ce_type", b"audio.chunk.v1")])
        self._producer.flush()

    def close(self) -> None:
        self._producer.close()

    def _send(self, key: SessionKey, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._producer.send(self._topic, value=value, key=key.stream_id.encode(), headers=headers)


def ask(url: str, query: str, *values: object) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(url, server_settings={"application_name": "onlooker"})
        try:
            return await connection.fetchval(query, *values)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def ended(url: str, name: str) -> bool:
    """Whether a session is over and everything of it has left for the topics."""
    waiting = "(SELECT count(*) FROM %s WHERE published_at IS NULL)"
    tables = ("transcripts", "captions", "events", "dead_letters")
    query = "SELECT %s" % " + ".join(waiting % table for table in tables)
    session = "SELECT count(*) FROM sessions WHERE ended AND stream_id = $1"
    return bool(ask(url, session, name)) and ask(url, query) == 0


def losses_told(log: Path) -> int:
    """How many lines give the database as their reason, whichever call of the worker's was the one that missed it.

    After a blow one call does, and the pool makes all connections anew: a commit or another question of the main path
    ("waiting for a dependency"), a sweep ("sweep put off"), or the note of what was sent ("rows left for the sweep").
    """
    return sum(str(record.get("reason")).startswith("PostgreSQL at ") for record in records(log))


@pytest.mark.timeout(240)
def test_nothing_of_it_comes_out(ready_kafka: SecureKafka, database_url: str, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    url = database_url.replace("//eureka@", "//eureka:%s@" % DATABASE_WORD)
    assert DATABASE_WORD in url
    settings = worker_settings(
        ready_kafka,
        url,
        group_id=GROUP,
        engine_factory="tests.security.engines:Canary",
        log_level="DEBUG",
        otel_exporter="console",
        otel_interval_s=1.0,
        sweep_interval_s=1.0,
        sweep_older_than_s=1.0,
        idle_flush_s=2.0,
    )
    caller = Caller(ready_kafka.settings(PRODUCER, topic_prefix=settings["topic_prefix"]))
    try:
        with worker(settings, log) as process:
            until(lambda: said(log, "worker ready") or process.poll() is not None, "worker ready")
            secrets = [DATABASE_WORD, *ready_kafka.passwords.values()]
            looked_at = look_at_processes(process.pid, secrets)
            assert looked_at >= 2, "the worker and its engine"

            caller.session("good", audible_canary(12.0))
            until(lambda: ended(database_url, "good"), "the good session")
            caller.session("engine-fails", audible_canary(4.0, RAISES))
            until(lambda: ended(database_url, "engine-fails"), "the session that breaks the engine")
            caller.damaged("damaged")
            until(lambda: ask(database_url, "SELECT count(*) FROM dead_letters") >= 8, "dead letters")
            assert losses_told(log) == 0
            assert ask(database_url, STRIKE), "the worker had no connection to lose"
            caller.session("connection-lost", audible_canary(4.0))
            until(lambda: losses_told(log) > 0, "a line that says that the database was lost")
            until(lambda: ended(database_url, "connection-lost"), "the session after the blow")
            ask(database_url, REFUSE)
            caller.session("refused", audible_canary(4.0))
            assert process.wait(60) == 1, "a row that the schema refuses is a defect"
    finally:
        caller.close()

    output = log.read_bytes()
    assert ask(database_url, "SELECT count(*) FROM transcripts WHERE text = $1", CANARY), "no canary sang"
    assert ask(database_url, "SELECT count(*) FROM captions WHERE text = $1", CANARY)
    for provoked in (b"the engine raised RuntimeError", b"worker ended by a defect"):
        assert provoked in output
    assert b'"name": "process ' in output, "no spans were written"
    audio = AUDIO_CANARY[8:24]
    encoded = [base64.b64encode(AUDIO_CANARY)[4:24], audio.hex().encode(), repr(audio).encode()[2:-1]]
    for canary in (b"canary phrase", audio, *encoded, *(word.encode() for word in secrets)):
        assert canary not in output, output[max(0, output.find(canary) - 500) :][:1000]


def look_at_processes(pid: int, secrets: list[str]) -> int:
    """No secret is in the arguments of a process below `pid`, nor in the variables of one that is not the worker."""
    parent = psutil.Process(pid)
    children = parent.children(recursive=True)
    for process in (parent, *children):
        assert [word for word in secrets if word in " ".join(process.cmdline())] == []
    for process in children:
        assert [word for word in secrets if word in str(process.environ())] == []
    return 1 + len(children)
