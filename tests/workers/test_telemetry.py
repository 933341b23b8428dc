"""Span names, links and the log format; nothing of a transcript or a secret in either."""

import asyncio
import gc
import json
import logging

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streams.messages import Record
from workers.pool import BatchReport
from workers.telemetry import JsonLines, Telemetry, new_traceparent


def recording() -> tuple[Telemetry, InMemorySpanExporter]:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    meter = metrics.NoOpMeterProvider().get_meter("test")
    return Telemetry(provider.get_tracer("test"), meter, "group"), spans


def test_the_trace_of_a_chunk_goes_on_in_its_results_and_batches() -> None:
    telemetry, exporter = recording()
    chunk = new_traceparent()
    other = new_traceparent()
    record = Record("audio.chunks", 3, 7, b"k", b"1234", (("traceparent", chunk.encode()),), 0)
    with telemetry.processing(record):
        pass
    telemetry.polled("audio.chunks", 3, 5)
    with telemetry.sending("audio.transcripts", "the-id", chunk):
        pass
    telemetry.batch(BatchReport("cpu", 3.0, (0.1, 0.3), (0.5, 0.2), (chunk, other, "not one")))
    process, poll, send, batch = exporter.get_finished_spans()
    trace_id = int(chunk.split("-")[1], 16)

    assert process.name == "process audio.chunks"
    assert process.context is not None
    assert process.context.trace_id == trace_id
    assert process.attributes is not None
    assert dict(process.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "audio.chunks",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 7,
        "messaging.consumer.group.name": "group",
        "messaging.message.body.size": 4,
    }
    assert poll.name == "poll audio.chunks"
    assert poll.attributes is not None
    assert poll.attributes["messaging.batch.message_count"] == 5
    assert send.name == "send audio.transcripts"
    assert send.context is not None
    assert send.context.trace_id == trace_id
    assert batch.attributes is not None
    assert dict(batch.attributes) == {
        "eureka.device": "cpu",
        "messaging.batch.message_count": 2,
        "eureka.batch.audio_s": 3.0,
        "eureka.batch.longest_wait_s": 0.3,
        "eureka.batch.run_s": 0.5,
    }
    assert [link.context.trace_id for link in batch.links] == [trace_id, int(other.split("-")[1], 16)]


def test_spans_hold_no_message_of_an_exception() -> None:
    telemetry, exporter = recording()
    with pytest.raises(ValueError), telemetry.processing(Record("t", 0, 0, None, None, (), 0)):
        raise ValueError("canary phrase")
    with pytest.raises(ValueError), telemetry.sending("t", "id", None):
        raise ValueError("canary phrase")
    assert all("canary" not in span.to_json() for span in exporter.get_finished_spans())


def test_log_lines_are_json_and_hold_no_message_of_an_exception() -> None:
    def fail(secret: str) -> None:
        raise ValueError(secret)

    with pytest.raises(ValueError) as caught:
        fail("canary phrase")
    info = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("workers.x", logging.ERROR, __file__, 1, "it %s", ("failed",), info)
    record.partition = 3
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "canary" not in text
    assert line["message"] == "it failed"
    assert line["partition"] == 3
    assert line["exception"] == "ValueError"
    assert line["at"][-1].startswith("test_telemetry.py:")


async def test_an_exception_that_nobody_fetched_is_logged_without_its_text() -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    async def fails() -> None:
        raise ValueError("canary phrase")

    logger, handler = logging.getLogger("asyncio"), Keep()
    logger.addHandler(handler)
    try:
        task = asyncio.create_task(fails())
        await asyncio.wait([task])
        del task
        gc.collect()
    finally:
        logger.removeHandler(handler)
    assert "never retrieved" in lines[0]
    assert "canary" not in "".join(lines)
    assert json.loads(lines[0])["exception"] == "ValueError"
