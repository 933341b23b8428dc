"""Is the broker there, and does it let us in? Asked where nothing is fetched, as long as a worker runs.

In: the consumer, settings. Out: the ends of the partitions that are not fetched, how often it refused, and why it does.
Does not know what is read. Invariants: a broker that is away is asked for ever, and said to be away once, with the
reason; one that does not let us in (a password that was changed, a certificate) is asked `DENIALS` times, then it ends:
whoever starts the worker again gives it the settings of the day. No reason holds a password.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP

from streams.errors import Unavailable
from workers.broker_trouble import Denied, explained
from workers.settings import Settings

log = logging.getLogger(__name__)
DENIALS = 3  # in a row: one that has just come up may not know its users yet


class Asked(Protocol):
    """What is asked of `workers.source.Consumer`."""

    turn: int | None

    @property
    def taken(self) -> list[TP]: ...
    def fetched_highwater(self, tp: TP, max_age_s: float) -> int | None: ...
    async def ask_ends(self, partitions: list[TP]) -> dict[TP, int]: ...


class BrokerWatch:
    """Run `watch`; the rest is what it has seen."""

    def __init__(self, settings: Settings, consumer: Callable[[], Asked]) -> None:
        self.ends: dict[TP, int] = {}  # of partitions that are not fetched, as the broker gave them
        self.refusals = 0
        self.trouble: Unavailable | None = None  # while it is away
        self._settings = settings
        self._consumer = consumer
        self._denials = 0

    async def watch(self) -> None:
        """Ask every `highwater_max_age_s` until cancelled. Raises Denied."""
        age_s = self._settings.highwater_max_age_s
        while True:
            await asyncio.sleep(age_s)
            consumer = self._consumer()
            silent = [tp for tp in consumer.taken if consumer.fetched_highwater(tp, age_s) is None]
            try:
                if silent or consumer.turn is None:
                    self.ends = await consumer.ask_ends(silent)
                self._back()
            except IllegalStateError:
                self.ends = {}  # revoked meanwhile
            except KafkaError as error:
                self.ends = {}
                await self._away(error)

    async def _away(self, error: KafkaError) -> None:
        self.refusals += 1
        trouble = await self._explained(error)
        self._denials = self._denials + 1 if isinstance(trouble, Denied) else 0
        if self.trouble is None or str(trouble) != str(self.trouble):
            log.warning("the broker is away", extra={"reason": str(trouble)})
        self.trouble = trouble
        if self._denials == DENIALS:
            raise trouble

    async def _explained(self, error: KafkaError) -> Unavailable:
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):  # many brokers, all of them mute
                return await explained(self._settings, error)
        except TimeoutError:
            return Unavailable("no broker at %s: %s" % (self._settings.brokers, type(error).__name__))

    def _back(self) -> None:
        self._denials = 0
        if self.trouble is not None:
            self.trouble = None
            log.info("the broker is back")
