"""Sends results to their topics and waits until the broker has them (`acks=all`).

In: result messages as built by `streams.messages`. Out: records, in the order given, per partition. It does
not know the store: whoever calls marks the rows as published afterwards. Invariants: a normal return means
that every message was acknowledged; one that its topic does not take for its size holds up no other.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.errors import Unavailable
from streams.messages import Message, Outgoing
from workers.ports import LeftOut
from workers.producer import open_producer
from workers.settings import Settings
from workers.telemetry import Telemetry

log = logging.getLogger(__name__)
CLIENT = "eureka-worker"
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
TOPIC_LIMIT = "max.message.bytes of the topic (a limit on a batch), or its segment.bytes"
OUR_LIMIT = "EUREKA_MAX_CHUNK_BYTES"  # see `open_producer`
NARROW_S = 60.0  # how long after a refusal a topic gets its messages one by one


class Publisher:
    """An aiokafka producer with one method; see the module docstring."""

    def __init__(self, settings: Settings, telemetry: Telemetry, producer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._producer: AIOKafkaProducer | None = producer
        self._renewing = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._narrow_until_s: dict[str, float] = {}
        self._told: dict[str, int] = {}  # topic: size of the largest refused message

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
        """Send all and wait for all acknowledgements. Raises Unavailable; some may have arrived then.

        Raises LeftOut when all have arrived but those that are too large (or waited behind them until time was up).
        """
        acks: list[asyncio.Future[object]] = []
        sent: list[tuple[Message, Outgoing]] = []
        apart: list[tuple[Message, Outgoing]] = []
        left: list[Message] = []
        topics: Counter[str] = Counter()
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(self._settings.publish_timeout_s):
                producer = await self._current()
                for message in messages:
                    out = message.outgoing(self._settings.topics)
                    if self._narrow_until_s.get(out.topic, 0.0) > time.monotonic():
                        apart.append((message, out))
                        continue
                    try:
                        acks.append(await self._send(producer, message, out))
                    except MessageSizeTooLargeError:
                        self._refused(out)
                        left.append(message)
                    else:
                        sent.append((message, out))
                answers = await asyncio.gather(*acks, return_exceptions=True)
                again = self._refused_with_others(sent, answers)
                if again:
                    self._give_up(producer)
                topics.update(out.topic for _, out in sent)
                topics.subtract(out.topic for _, out in again)
                left += await self._one_by_one(apart + again, topics)
        except (TimeoutError, KafkaError) as error:
            for ack in acks:
                ack.cancel()
            await asyncio.gather(*acks, return_exceptions=True)
            if producer is not None:
                self._give_up(producer)
            raise Unavailable(
                "%d messages not acknowledged: %s" % (len(messages), type(error).__name__)
            ) from None
        for topic, number in (+topics).items():
            self._telemetry.sent(topic, number)
        if left:
            raise LeftOut(left)

    async def _send(
        self, producer: AIOKafkaProducer, message: Message, out: Outgoing
    ) -> asyncio.Future[object]:
        """Hand one message over; the future is its acknowledgement. Raises KafkaError."""
        with self._telemetry.sending(out.topic, message.ce_id, message.traceparent):
            ack: asyncio.Future[object] = await producer.send(
                out.topic, value=out.value, key=out.key, headers=list(out.headers)
            )
        return ack

    def _refused_with_others(
        self, sent: Sequence[tuple[Message, Outgoing]], answers: Sequence[object]
    ) -> list[tuple[Message, Outgoing]]:
        """What was not acknowledged because a batch was too large: its messages, and what came behind it.

        Raises what else a message was answered with.
        """
        pairs = list(zip(sent, answers, strict=True))
        narrow = {out.topic for (_, out), answer in pairs if isinstance(answer, TOO_LARGE)}
        for topic in narrow:
            self._narrow_until_s[topic] = time.monotonic() + NARROW_S
        again = []
        for (message, out), answer in pairs:
            if isinstance(answer, BaseException):
                if out.topic not in narrow or not isinstance(answer, KafkaError):
                    raise answer
                again.append((message, out))
        return again

    async def _one_by_one(
        self, sends: Sequence[tuple[Message, Outgoing]], topics: Counter[str]
    ) -> list[Message]:
        """Send each in a batch of its own and count it; returns what was too large. Raises KafkaError.

        On producers of their own: a refusal breaks one (see `_give_up`), and others send with ours meanwhile.
        """
        half_s = time.monotonic() + self._settings.publish_timeout_s / 2
        least: dict[str, int] = {}  # topic: smallest size refused in this call; larger ones are not tried
        left: list[Message] = []
        producer: AIOKafkaProducer | None = None
        try:
            for message, out in sends:
                if topics[out.topic] and time.monotonic() > half_s:
                    left.append(message)  # too slow for all of them: the sweep goes on with it
                    continue
                refused = _size(out) >= least.get(out.topic, sys.maxsize)
                if not refused:
                    producer = producer or await open_producer(self._settings, CLIENT)
                    try:
                        await (await self._send(producer, message, out))
                        topics[out.topic] += 1
                    except TOO_LARGE:
                        refused = True
                        least[out.topic] = _size(out)
                        self._narrow_until_s[out.topic] = time.monotonic() + NARROW_S
                        self._retire(producer)
                        producer = None
                if refused:
                    self._refused(out)
                    left.append(message)
        finally:
            if producer is not None:
                self._retire(producer)
        return left

    def _refused(self, out: Outgoing) -> None:
        """Count it, and say so once per topic; again only of a larger one, for which the limit must be higher yet."""
        self._telemetry.count("eureka.rows.too_large", topic=out.topic)
        size = _size(out)
        if size > self._told.get(out.topic, 0):
            self._told[out.topic] = size
            limit = OUR_LIMIT if size > 2 * self._settings.max_message_bytes else TOPIC_LIMIT
            log.error(
                "message too large for its topic; it stays in the database until the limit is raised",
                extra={"topic": out.topic, "size_bytes": size, "limit": limit},
            )

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
            self._retire(producer)

    def _retire(self, producer: AIOKafkaProducer) -> None:
        closing = asyncio.create_task(_closed(producer, self._settings.publish_timeout_s))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


def _size(out: Outgoing) -> int:
    """Bytes of a batch with this message alone, at most."""
    size: int = DefaultRecordBatchBuilder.estimate_size_in_bytes(out.key, out.value, list(out.headers))
    return size


async def _closed(producer: AIOKafkaProducer, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await producer.stop()
    except (TimeoutError, KafkaError) as error:
        log.warning("producer did not close cleanly", extra={"reason": type(error).__name__})
