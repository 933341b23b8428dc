"""Reads results from the topics, as any client would: kafka-python, no group, nothing committed.

In: settings and the kinds wanted. Out: an iterator of decoded messages. It knows neither database nor worker.
A message may come twice (topics carry at least one per id); whoever counts goes by `ce_id`.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.errors import Unavailable
from streams.topics import Topics
from workers.broker_trouble import explained_apart
from workers.settings import Settings, kafka_security

POLL_MS = 200
BROKER_WAIT_S = 5.0  # for a first answer
KINDS = ("transcript", "caption", "event", "alert", "deadletter")


@dataclass(frozen=True, slots=True)
class Tailed:
    """One message: its kind, CloudEvents id, place in Kafka, and the fields of the wire contract."""

    kind: str
    ce_id: str
    topic: str
    partition: int
    offset: int
    fields: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """One flat object, as `eureka demo --json` prints a result, and where the message lies in Kafka."""
        place = {"id": self.ce_id, "topic": self.topic, "partition": self.partition, "offset": self.offset}
        return {"type": self.kind, **self.fields, "kafka": place}


def tail_messages(
    settings: Settings,
    *,
    kinds: Sequence[str] | None = None,
    from_start: bool = False,
    limit: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Tailed]:
    """Yield messages as they arrive until `limit` or `stop`. Raises Unavailable, or ValueError for an unknown kind."""
    by_topic = _topics(settings.topics, kinds)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=settings.broker_list,
            client_id="eureka-tail",
            bootstrap_timeout_ms=int(BROKER_WAIT_S * 1000),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **kafka_security(settings),
        )
    except KafkaError as error:
        raise explained_apart(settings, error) from None
    try:
        _seek(consumer, list(by_topic), from_start)
        left = limit
        while (stop is None or not stop.is_set()) and left != 0:
            for records in consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    if left == 0:
                        return
                    yield _decode(by_topic[record.topic], record)
                    left = None if left is None else left - 1
    except KafkaError as error:
        raise Unavailable("the broker at %s: %s" % (settings.brokers, type(error).__name__)) from None
    finally:
        consumer.close()


def _topics(topics: Topics, kinds: Sequence[str] | None) -> dict[str, str]:
    all_kinds = dict(zip(KINDS, topics.outputs, strict=True))
    unknown = set(kinds or ()) - set(KINDS)
    if unknown:
        raise ValueError("unknown kind %s; there are %s" % (", ".join(sorted(unknown)), ", ".join(KINDS)))
    return {all_kinds[kind]: kind for kind in (kinds or KINDS)}


def _seek(consumer: KafkaConsumer, topics: list[str], from_start: bool) -> None:
    partitions = []
    for topic in topics:
        known = consumer.partitions_for_topic(topic)
        if not known:
            raise Unavailable("topic %s is missing; run `eureka topics create`" % topic)
        partitions += [TopicPartition(topic, number) for number in sorted(known)]
    consumer.assign(partitions)
    if from_start:
        consumer.seek_to_beginning(*partitions)
    else:
        consumer.seek_to_end(*partitions)
        for partition in partitions:
            consumer.position(partition)  # "new" means from now on, not from the first poll


def _decode(kind: str, record: Any) -> Tailed:
    headers = dict(record.headers or ())
    return Tailed(
        kind=kind,
        ce_id=headers.get("ce_id", b"").decode(),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        fields=json.loads(record.value),
    )
