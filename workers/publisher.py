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
from workers.producer import open_producer
from workers.settings import Settings
from workers.telemetry import Telemetry

log = logging.getLogger(__name__)
CLIENT = "eureka-worker"


class Publisher:
    """An aiokafka producer with one method; see the module docstring."""

    def __init__(self, settings: Settings, telemetry: Telemetry, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._producer: AIOKafkaProducer | None = producer
        self._renewing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, settings: Settings, telemetry: Telemetry) -> Self:
        """Connect to the broker. Raises Unavailable."""
        try:
            return cls(settings, telemetry, await open_producer(settings, CLIENT))
        except KafkaError as error:
            raise Unavailable("no broker at %s: %s" % (settings.brokers, type(error).__name__)) from None

    async def close(self) -> None:
        """Give the connection back; what was not acknowledged stays unsent in the store."""
        if self._producer is not None:
            self._give_up(self._producer)
        await asyncio.gather(*self._closing)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send all and wait for all acknowledgements. Raises Unavailable; some may have arrived then."""
        acks: list[asyncio.Future[object]] = []
        topics: Counter[str] = Counter()
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s):
                producer = await self._current()
                for message in messages:
                    out = message.outgoing(self._settings.topics)
                    with self._telemetry.sending(out.topic, message.ce_id, message.traceparent):
                        acks.append(
                            await producer.send(
                                out.topic, value=out.value, key=out.key, headers=list(out.headers)
                            )
                        )
                    topics[out.topic] += 1
                await asyncio.gather(*acks)
        except (TimeoutError, KafkaError) as error:
            for ack in acks:
                ack.cancel()
            await asyncio.gather(*acks, return_exceptions=True)
            if producer is not None:
                self._give_up(producer)
            raise Unavailable(
                "%d messages not acknowledged: %s" % (len(messages), type(error).__name__)
            ) from None
        for topic, sent in topics.items():
            self._telemetry.sent(topic, sent)

    async def _current(self) -> AIOKafkaProducer:
        """The producer, or after a failure a new one. Raises KafkaError."""
        async with self._renewing:
            if self._producer is None:
                self._producer = await open_producer(self._settings, CLIENT)
            return self._producer

    def _give_up(self, producer: AIOKafkaProducer) -> None:
        """Close a producer, beside whatever goes on.

        One that has failed must not be used again: aiokafka counts the sequence of a batch that it gave up, and the
        broker then refuses everything that follows in its partition (OutOfOrderSequenceNumber), for ever.
        """
        if self._producer is producer:
            self._producer = None
            closing = asyncio.create_task(_closed(producer, self._settings.publish_timeout_s))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


async def _closed(producer: AIOKafkaProducer, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        log.warning("producer did not close cleanly", extra={"reason": type(error).__name__})
