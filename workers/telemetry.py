"""Traces, metrics and logs of a worker, by OpenTelemetry's messaging names.

In: calls from the edge, the pipeline and the pool. Out: spans and metrics to an OTLP collector, the console,
or nowhere; logs as one JSON object per line. It does not know transcripts or audio. Invariant: no text of a
transcript enters a span, a metric or a log line: attributes are names, numbers and states; an exception is
logged by type and place only.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import metrics, trace
from opentelemetry.metrics import Counter, Histogram, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Link, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams.messages import Record
from workers.places import places
from workers.settings import Settings

if TYPE_CHECKING:
    from workers.pool import BatchReport

# Seconds. The first ones are below 10 ms: token times are that short.
DURATION_BUCKETS_S: Final = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    60.0,
)
_STANDARD_FIELDS: Final = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {
    "message",
    "asctime",
}
_propagator = TraceContextTextMapPropagator()


class Telemetry:
    """What the parts of a worker tell the outside. `Telemetry.off()` tells nothing."""

    def __init__(self, tracer: Tracer, meter: Meter, group_id: str, close: Sequence[Any] = ()) -> None:
        self._tracer = tracer
        self._meter = meter
        self._group_id = group_id
        self._close = close
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._lag = meter.create_gauge("messaging.kafka.consumer.lag")

    @classmethod
    def off(cls) -> Self:
        """Spans and metrics that go nowhere."""
        return cls(
            trace.NoOpTracerProvider().get_tracer("eureka"),
            metrics.NoOpMeterProvider().get_meter("eureka"),
            "",
        )

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Exporters by `otel_exporter`: `none`, `console` for trying, `otlp` (HTTP) for a collector."""
        if settings.otel_exporter == "none":
            return cls.off()
        resource = Resource.create({"service.name": "eureka-worker", "service.namespace": settings.group_id})
        tracers = TracerProvider(resource=resource)
        tracers.add_span_processor(BatchSpanProcessor(_span_exporter(settings)))
        reader = PeriodicExportingMetricReader(
            _metric_exporter(settings), export_interval_millis=settings.otel_interval_s * 1000
        )
        buckets = ExplicitBucketHistogramAggregation(DURATION_BUCKETS_S)
        meters = MeterProvider(
            [reader], resource, views=[View(instrument_type=Histogram, aggregation=buckets)]
        )
        return cls(
            tracers.get_tracer("eureka"), meters.get_meter("eureka"), settings.group_id, (tracers, meters)
        )

    def close(self) -> None:
        """Send what is still buffered."""
        for provider in self._close:
            provider.shutdown()

    def count(self, name: str, amount: int = 1, **attributes: str) -> None:
        """Add to a counter, made on first use."""
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name)
        self._counters[name].add(amount, attributes)

    def duration(self, name: str, seconds: float, **attributes: str) -> None:
        """Record a duration in seconds in a histogram, made on first use."""
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(name, unit="s")
        self._histograms[name].record(seconds, attributes)

    @contextmanager
    def processing(self, record: Record) -> Iterator[None]:
        """Span `process <topic>` around one record, in the trace of the chunk."""
        headers = {
            name: value.decode("ascii", "replace") for name, value in record.headers if name == "traceparent"
        }
        attributes = self._messaging(record.topic, "process", "process") | {
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._group_id,
            "messaging.message.body.size": len(record.value or b""),
        }
        context = _propagator.extract(headers)
        name = "process %s" % record.topic
        with self._tracer.start_as_current_span(
            name,
            context,
            SpanKind.CONSUMER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield
        self.count("messaging.client.consumed.messages", **_destination(record.topic))

    def polled(self, topic: str, partition: int, records: int) -> None:
        """Span `poll <topic>`: one or more records of a partition have come in since the last call."""
        attributes = self._messaging(topic, "poll", "receive") | {
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": self._group_id,
            "messaging.batch.message_count": records,
        }
        self._tracer.start_span("poll %s" % topic, kind=SpanKind.CLIENT, attributes=attributes).end()

    @contextmanager
    def sending(self, topic: str, message_id: str, traceparent: str | None) -> Iterator[None]:
        """Span `send <topic>` around handing one message to the producer, in the trace of its chunk."""
        context = _propagator.extract({"traceparent": traceparent} if traceparent else {})
        attributes = self._messaging(topic, "send", "send") | {"messaging.message.id": message_id}
        with self._tracer.start_as_current_span(
            "send %s" % topic,
            context,
            SpanKind.PRODUCER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield

    def sent(self, topic: str, messages: int) -> None:
        """Count messages that the broker has acknowledged."""
        self.count("messaging.client.sent.messages", messages, **_destination(topic))

    def batch(self, report: "BatchReport") -> None:
        """Span and metrics of windows answered together; the span links to every member's trace."""
        contexts = (
            trace.get_current_span(_propagator.extract({"traceparent": t})) for t in report.traceparents
        )
        links = [Link(span.get_span_context()) for span in contexts if span.get_span_context().is_valid]
        windows = len(report.runs_s)
        attributes: dict[str, str | int | float] = {
            "eureka.device": report.device,
            "messaging.batch.message_count": windows,
            "eureka.batch.audio_s": report.audio_s,
            "eureka.batch.longest_wait_s": max(report.waits_s),
            "eureka.batch.run_s": max(report.runs_s),
        }
        self._tracer.start_span("analyse batch", links=links, attributes=attributes).end()
        self.count("eureka.engine.windows", windows, device=report.device)
        self.duration("eureka.engine.batch", max(report.runs_s), device=report.device)
        for wait_s, run_s in zip(report.waits_s, report.runs_s, strict=True):
            self.duration("eureka.engine.wait", wait_s, device=report.device)
            self.duration("eureka.engine.run", run_s, device=report.device)

    def watch(self, name: str, look: Callable[[], int]) -> None:
        """A gauge that is looked at whenever metrics leave."""
        self._meter.create_observable_gauge(name, [lambda _: [Observation(look())]])

    def lag(self, topic: str, partition: int, records: int) -> None:
        """How many records of a partition are still to be read."""
        self._lag.set(
            records,
            {"messaging.destination.name": topic, "messaging.destination.partition.id": str(partition)},
        )

    def _messaging(self, topic: str, name: str, kind: str) -> dict[str, str | int]:
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": name,
            "messaging.operation.type": kind,
            "messaging.destination.name": topic,
        }


def _destination(topic: str) -> dict[str, Any]:
    return {"messaging.destination.name": topic}


def new_traceparent() -> str:
    """A W3C traceparent that starts a trace, for producers without a tracer of their own."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    ids = RandomIdGenerator()
    return "00-%032x-%016x-01" % (ids.generate_trace_id(), ids.generate_span_id())


class JsonLines(logging.Formatter):
    """One JSON object per line: the message and its `extra` fields; exceptions by type and place only."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + ".%03dZ" % record.msecs,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _said(record),
        }
        line |= {k: _plain(v) for k, v in record.__dict__.items() if k not in _STANDARD_FIELDS}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            line["at"] = places(record.exc_info[2])[:5][::-1]
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str) -> None:
    """Send all logs to stderr as JSON lines; third-party ones from WARNING on."""
    import time

    handler = logging.StreamHandler(sys.stderr)
    formatter = JsonLines()
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("workers", "streams", "storage", "model"):
        logging.getLogger(ours).setLevel(level)
    # Faust words every step of a rebalance as a warning or an error; what matters reaches us as an exception
    logging.getLogger("faust").setLevel(logging.ERROR)
    # aiokafka repeats each failed attempt ten times a second while the broker is away; the edge says it once
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _said(record: logging.LogRecord) -> str:
    """The message; of asyncio's, whose further lines show exceptions with their texts, the first line alone."""
    text = record.getMessage()
    return text.partition("\n")[0] if record.name == "asyncio" else text


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(v) for v in value]
    return str(value)


def _span_exporter(settings: Settings) -> SpanExporter:
    if settings.otel_exporter == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    endpoint = settings.otel_endpoint
    return OTLPSpanExporter(endpoint="%s/v1/traces" % endpoint.rstrip("/") if endpoint else None)


def _metric_exporter(settings: Settings) -> MetricExporter:
    if settings.otel_exporter == "console":
        return ConsoleMetricExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    endpoint = settings.otel_endpoint
    return OTLPMetricExporter(endpoint="%s/v1/metrics" % endpoint.rstrip("/") if endpoint else None)
