"""Calls of the store: again and again until it answers; nothing is dropped meanwhile.

In: a call that may raise Unavailable. Out: its answer. Does not know what is asked. Invariant: only Unavailable is
tried again, with growing pauses; anything else passes through.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")


class Retry:
    """Tries until the store answers, and remembers for the watchdog and the health endpoint what it said."""

    def __init__(self, clock: Callable[[], float], first_s: float, most_s: float) -> None:
        self._clock = clock
        self._first_s = first_s
        self._most_s = most_s
        self.replies = 0  # answers and refusals: whichever it is, somebody is there, or known to be away
        self.answered_s = clock()

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it answers; consumption waits meanwhile."""
        wait_s = self._first_s
        while True:
            try:
                answer = await call()
            except Unavailable as error:
                self.replies += 1
                log.warning("waiting for a dependency", extra={"reason": str(error), "wait_s": wait_s})
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._most_s)
            else:
                self.replies += 1
                self.answered()
                return answer

    def answered(self) -> None:
        """The store has answered, in a call that was not made here."""
        self.answered_s = self._clock()
