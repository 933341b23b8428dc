"""Sends results to their topics and waits until the broker has them (`acks=all`).

In: result messages as built by `streams.messages`. Out: records, in the order given, per partition. It does
not know the store: whoever calls marks the rows as published afterwards. Invariant: a normal return means
that every message was acknowledged.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.errors import Unavailable
from streams.messages import Message
from streams.topics import Topics
from workers.settings import Settings, kafka_security
from workers.telemetry import Telemetry

log = logging.getLogger(__name__)


class Publisher:
    """An aiokafka producer with one method; see the module docstring."""

    def __init__(
        self, producer: AIOKafkaProducer, topics: Topics, telemetry: Telemetry, timeout_s: float
    ) -> None:
        self._producer = producer
        self._topics = topics
        self._telemetry = telemetry
        self._timeout_s = timeout_s

    @classmethod
    async def open(cls, settings: Settings, telemetry: Telemetry) -> Self:
        """Connect to the broker. Raises Unavailable."""
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.broker_list,
            client_id="eureka-worker",
            acks="all",
            enable_idempotence=settings.producer_idempotence,
            max_batch_size=settings.producer_batch_bytes,
            max_request_size=settings.max_chunk_bytes * 2,
            request_timeout_ms=int(settings.publish_timeout_s * 1000),
            **kafka_security(settings),
        )
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise Unavailable("no broker at %s: %s" % (settings.brokers, type(error).__name__)) from None
        return cls(producer, settings.topics, telemetry, settings.publish_timeout_s)

    async def close(self) -> None:
        """Give the connection back; what was not acknowledged stays unsent in the store."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._producer.stop()
        except (TimeoutError, KafkaError) as error:
            log.warning("producer did not close cleanly", extra={"reason": type(error).__name__})

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send all and wait for all acknowledgements. Raises Unavailable; some may have arrived then."""
        acks: list[asyncio.Future[object]] = []
        topics: Counter[str] = Counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                for message in messages:
                    out = message.outgoing(self._topics)
                    with self._telemetry.sending(out.topic, message.ce_id, message.traceparent):
                        acks.append(
                            await self._producer.send(
                                out.topic, value=out.value, key=out.key, headers=list(out.headers)
                            )
                        )
                    topics[out.topic] += 1
                await asyncio.gather(*acks)
        except (TimeoutError, KafkaError) as error:
            for ack in acks:
                ack.cancel()
            await asyncio.gather(*acks, return_exceptions=True)
            raise Unavailable(
                "%d messages not acknowledged: %s" % (len(messages), type(error).__name__)
            ) from None
        for topic, sent in topics.items():
            self._telemetry.sent(topic, sent)
