"""Sends audio files as if they were live streams, at their pace or faster; a producer like any customer's, in
kafka-python.

In: files, a content type, a pace. Out: chunks with CloudEvents headers and a trace each, and the end of the
session. It does not know the worker. Invariant: chunks of a stream reach the topic in order, each once; a
normal return means the broker has them all.
"""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from streams.encode import encode_file, stream_ids
from streams.errors import Unavailable
from streams.messages import SessionKey, chunk_headers, end_headers
from workers.broker_trouble import explained_apart
from workers.settings import Settings, kafka_security
from workers.telemetry import new_traceparent

SOURCE = "/eureka/send"
BROKER_WAIT_S = 5.0  # for a first answer; a producer of one command need not outlast an outage


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one file."""

    file: str
    stream_id: str
    session_id: str
    chunks: int
    audio_s: float
    complete: bool


def send_files(
    settings: Settings,
    files: Sequence[Path],
    *,
    stream_id: str | None = None,
    speed: float | None = 1.0,
    content_type: str = "audio/flac",
    chunk_ms: int = 100,
    roles: Sequence[str] | None = None,
) -> list[Sent]:
    """Send all files at once, one stream each; `speed` None is as fast as possible.

    A stream is called `stream_id` or, like the file, `path.stem`; of several files `stream_id` is a prefix.
    Raises Unavailable, Reject(decode) for a file that is no audio, ValueError for an unknown content type.
    """
    names = stream_ids([path.stem for path in files])
    if stream_id is not None:
        names = [stream_id] if len(files) == 1 else ["%s-%s" % (stream_id, name) for name in names]

    def send(path: Path, name: str) -> Sent:
        return send_stream(
            settings,
            path,
            stream_id=name,
            content_type=content_type,
            chunk_ms=chunk_ms,
            roles=roles,
            speed=speed,
        )

    with ThreadPoolExecutor(max(1, len(files)), "send") as threads:
        return list(threads.map(send, files, names))


def send_stream(
    settings: Settings,
    path: Path,
    *,
    stream_id: str,
    content_type: str,
    chunk_ms: int = 100,
    roles: Sequence[str] | None = None,
    speed: float | None = 1.0,
    session_id: str | None = None,
    on_sent: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Sent:
    """Send one file; `on_sent(end_sample, rate_hz)` is called after each chunk is handed to the producer.

    At `speed` 1 a chunk leaves when its last sample would have been recorded. `stop` ends the stream early.
    """
    encoded = encode_file(path, content_type, chunk_ms)
    if roles is not None and len(roles) != encoded.channels:
        raise ValueError("%d role(s) for the %d channel(s) of %s" % (len(roles), encoded.channels, path.name))
    key = SessionKey(settings.tenant_default, stream_id, session_id or str(uuid.uuid4()))
    stopped = stop or threading.Event()
    producer = _producer(settings)
    acks: list[Any] = []
    sequence = end_sample = 0
    try:
        started_s = time.monotonic()
        for chunk in encoded.chunks:
            end_sample = chunk.start_sample + chunk.samples
            due_s = started_s + (end_sample / encoded.rate / speed if speed else 0.0)
            if stopped.wait(max(0.0, due_s - time.monotonic())):
                break
            headers = chunk_headers(
                key,
                sequence,
                chunk.start_sample,
                encoded.content_type,
                source=SOURCE,
                captured_at=datetime.now(UTC),
                roles=roles,
                traceparent=new_traceparent(),
            )
            acks.append(_send(producer, settings, key, chunk.payload, headers))
            sequence += 1
            if on_sent is not None:
                on_sent(end_sample, encoded.rate)
        headers = end_headers(key, sequence, source=SOURCE, traceparent=new_traceparent())
        acks.append(_send(producer, settings, key, b"", headers))
        for ack in acks:
            ack.get(timeout=settings.publish_timeout_s)
    except KafkaError as error:
        raise Unavailable("%s not sent: %s" % (path.name, type(error).__name__)) from None
    finally:
        producer.close(timeout=5)
    complete = sequence == len(encoded.chunks)
    return Sent(str(path), stream_id, key.session_id, sequence, end_sample / encoded.rate, complete)


def _producer(settings: Settings) -> KafkaProducer:
    try:
        return KafkaProducer(
            bootstrap_servers=settings.broker_list,
            client_id="eureka-send",
            bootstrap_timeout_ms=int(BROKER_WAIT_S * 1000),
            acks="all",
            enable_idempotence=settings.producer_idempotence,
            # without idempotence a retry may overtake unless one request is in flight
            max_in_flight_requests_per_connection=5 if settings.producer_idempotence else 1,
            batch_size=settings.producer_batch_bytes,
            linger_ms=0,
            max_request_size=settings.max_chunk_bytes * 2,
            **kafka_security(settings),
        )
    except KafkaError as error:
        raise explained_apart(settings, error) from None


def _send(
    producer: KafkaProducer,
    settings: Settings,
    key: SessionKey,
    payload: bytes,
    headers: list[tuple[str, bytes]],
) -> Any:
    return producer.send(settings.topics.chunks, value=payload, key=key.stream_id.encode(), headers=headers)
