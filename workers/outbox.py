"""Committed rows on their way to the topics: sent after the commit, and swept up later where that failed.

In: rows that a commit has added. Out: messages on the topics, rows marked as sent. Does not know sessions or positions.
Invariants: what cannot be sent now stays unsent in the store, where a sweep of any process finds it; an absent broker
never holds up a commit for longer than the publisher waits; a message that its topic does not take holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from streams.errors import Unavailable
from streams.messages import Message
from workers.ports import LeftOut, Monitor, Publisher, Store
from workers.retry import Retry

log = logging.getLogger(__name__)


async def publish_most(publisher: Publisher, messages: Sequence[Message]) -> list[Message]:
    """Send all that the topics take; returns these. Raises Unavailable."""
    left: set[int] = set()
    try:
        await publisher.publish(messages)
    except LeftOut as error:
        left = {id(message) for message in error.messages}
    return [message for message in messages if id(message) not in left]


@dataclass(frozen=True, slots=True)
class SweepLimits:
    """Younger rows than `older_than_s` are on their way in the process that committed them."""

    interval_s: float
    older_than_s: float
    batch: int


class Outbox:
    """Sends rows of this process at once, and those that anybody left behind now and then."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher,
        monitor: Monitor,
        retry: Retry,
        limits: SweepLimits,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._monitor = monitor
        self._retry = retry
        self._limits = limits
        self._swept_s = clock()
        self._sweeping: asyncio.Task[None] | None = None
        self.refusals = 0

    async def send(self, messages: Sequence[Message]) -> None:
        """Send the new rows of a commit.

        A row that was there already is the store's: it was sent, or the sweep will, as it was first written.
        """
        if not messages:
            return
        try:
            await self._store.mark_published(await publish_most(self._publisher, messages))
            self._retry.answered()
        except Unavailable as error:
            self.refusals += 1
            log.warning("rows left for the sweep", extra={"rows": len(messages), "reason": str(error)})

    def sweep_soon(self) -> None:
        """A predecessor may have committed rows that it did not send."""
        self._swept_s = float("-inf")

    def sweep_if_due(self, now_s: float, done: Callable[[asyncio.Task[None]], None]) -> None:
        """Begin a sweep where one is due; it goes on beside everything else, and `done` is told of its end."""
        if now_s - self._swept_s < self._limits.interval_s or self.sweeping:
            return
        self._swept_s = now_s
        self._sweeping = asyncio.ensure_future(self._sweep())
        self._sweeping.add_done_callback(done)

    @property
    def sweeping(self) -> bool:
        """Whether a sweep is under way."""
        return self._sweeping is not None and not self._sweeping.done()

    async def close(self) -> None:
        """Give up a sweep that is under way; what it had in hand stays unsent."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._sweeping

    async def _sweep(self) -> None:
        """Send rows that were committed but not marked as sent, by whichever process."""
        limits = self._limits
        try:
            async with self._store.unsent(limits.batch, limits.older_than_s) as messages:
                self._retry.answered()
                found = len(messages)
                if found:
                    messages[:] = await publish_most(self._publisher, messages)
                    self._monitor.count("eureka.rows.swept", len(messages))
            if found == limits.batch and messages:
                self.sweep_soon()  # more is waiting
        except Unavailable as error:
            log.warning("sweep put off", extra={"reason": str(error)})
