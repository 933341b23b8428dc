"""Keeps a worker on the promoted checkpoint: at its start, and while it runs, without dropping a window.

In: the folder of promotions, looked at every `checkpoint_poll_s`. Out: an engine pool on the promoted checkpoint, and
swaps of it. Does not know how a pool swaps. The folder is read in a thread: a volume that hangs stops nothing.
Invariants: a checkpoint that does not start never ends a worker that has another one: at a start the previous one runs
instead, later the old one stays; each promotion is tried `checkpoint_attempts` times, with growing waits, and is then
left alone until another promotion.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams.errors import Unavailable
from workers.checkpoints import Promotion, earlier, history, trouble
from workers.parts import engine_spec, pool_config
from workers.pool import EnginePool, PoolConfig
from workers.settings import Settings, SettingsError
from workers.telemetry import Telemetry

log = logging.getLogger(__name__)

FALLBACKS = 3  # earlier promotions that are tried at a start

MakePool = Callable[[PoolConfig], EnginePool]


class Swapper:
    """`look_ahead`, `start` it once for the pool, then `watch` until the worker ends."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._running: Promotion | None = None
        self._wanted: Promotion | None = None
        self._pool: EnginePool | None = None
        self._attempts = 0
        self._next_s = 0.0
        self._swapping = False
        self._trouble = ""

    async def look_ahead(self) -> None:
        """Whether there can be an engine at all, before anything is waited for. Raises SettingsError, Unavailable."""
        settings = self._settings
        if settings.engine_args is None and await self._choices() == [None]:
            await asyncio.to_thread(_must_be_there, settings.checkpoint)

    async def start(self, make: MakePool) -> EnginePool:
        """A started pool: of the promoted checkpoint, else of one before it. Raises Unavailable where none starts."""
        choices = await self._choices()
        self._wanted = choices[0]
        for choice in choices:
            pool = make(pool_config(self._settings, choice))
            try:
                await self._look_at(choice)
                await pool.start()
            except Unavailable as error:
                if choice is choices[-1]:
                    raise
                self._failed(error)
            else:
                self._running, self._pool = choice, pool
                return pool
        raise AssertionError("there is always the setting's checkpoint")

    async def watch(self, resting: Callable[[], bool] = lambda: False) -> None:
        """Swap whenever another checkpoint is promoted; begin nothing while `resting`, as a worker that drains.

        Never returns where there is a folder of promotions.
        """
        while (folder := self._settings.checkpoints_dir) is not None:
            await asyncio.sleep(self._settings.checkpoint_poll_s)
            if resting():
                continue
            try:
                promotions = await asyncio.to_thread(history, folder)
            except Unavailable as error:
                if str(error) != self._trouble:
                    log.warning("promotions cannot be read", extra={"reason": str(error)})
                self._trouble = str(error)
                continue
            self._trouble = ""
            await self._follow(promotions[-1] if promotions else None)

    @property
    def behind(self) -> bool:
        """Whether another checkpoint runs than is promoted."""
        return self._wanted is not None and not _same(self._wanted, self._running)

    def state(self) -> dict[str, Any]:
        """For the health endpoint: what runs, what should, and how it stands with that."""
        ready = self._pool.ready if self._pool is not None else None
        state = "current"
        if self.behind:
            given_up = self._attempts >= self._settings.checkpoint_attempts
            state = "swapping" if self._swapping else "given up" if given_up else "behind"
        return {
            "model": ready.model_name if ready else None,
            "version": ready.model_version if ready else None,
            "promoted": self._wanted.version if self._wanted else None,
            "state": state,
            "attempts": self._attempts,
            "promotions_readable": not self._trouble,
        }

    async def _choices(self) -> list[Promotion | None]:
        """What may run at a start, best first; None is the setting's checkpoint."""
        folder = self._settings.checkpoints_dir
        promotions = await asyncio.to_thread(history, folder) if folder is not None else []
        if not promotions:
            return [None]
        back: list[Promotion | None] = [*earlier(promotions)[:FALLBACKS]]
        return [promotions[-1], *(back or [None])]

    async def _follow(self, wanted: Promotion | None) -> None:
        if wanted is None:  # the list is gone: what runs goes on
            return
        if wanted != self._wanted:
            self._wanted, self._attempts, self._next_s = wanted, 0, 0.0
        now_s = asyncio.get_running_loop().time()
        if self.behind and self._attempts < self._settings.checkpoint_attempts and now_s >= self._next_s:
            await self._swap(wanted)

    async def _swap(self, wanted: Promotion) -> None:
        assert self._pool is not None
        log.info("swapping the checkpoint", extra=_names(wanted))
        self._swapping = True
        try:
            await self._look_at(wanted)
            beside = self._settings.checkpoint_swap == "beside"
            await self._pool.swap(engine_spec(self._settings, wanted), beside=beside, self_test=True)
        except Unavailable as error:
            self._failed(error)
        else:
            self._running, self._attempts = wanted, 0
            self._telemetry.count("eureka.checkpoint.swaps", outcome="done")
            log.info("checkpoint swapped", extra=_names(wanted))
        finally:
            self._swapping = False

    async def _look_at(self, choice: Promotion | None) -> None:
        """A file that is not there yet costs no start of a process. Raises Unavailable."""
        folder = self._settings.checkpoints_dir
        if choice is None or folder is None:
            return
        if wrong := await asyncio.to_thread(_trouble, folder, choice):
            raise Unavailable(wrong)

    def _failed(self, error: Unavailable) -> None:
        assert self._wanted is not None
        self._attempts += 1
        self._next_s = asyncio.get_running_loop().time() + self._settings.checkpoint_retry_s * 2 ** (
            self._attempts - 1
        )
        self._telemetry.count("eureka.checkpoint.swaps", outcome="failed")
        left = self._settings.checkpoint_attempts - self._attempts
        log.error(
            "the promoted checkpoint does not start; another one runs on",
            extra=_names(self._wanted) | {"reason": str(error), "attempts_left": left},
        )


def _must_be_there(checkpoint: Path) -> None:
    if not checkpoint.exists():
        raise SettingsError("checkpoint: %s is not there" % checkpoint)


def _trouble(folder: Path, promotion: Promotion) -> str:
    try:
        return trouble(folder, promotion)
    except OSError as error:
        return "%s: %s" % (promotion.file, error.strerror)


def _same(one: Promotion, other: Promotion | None) -> bool:
    return other is not None and one.sha256 == other.sha256


def _names(promotion: Promotion) -> dict[str, str]:
    return {"model": promotion.model, "model_version": promotion.version, "sha256": promotion.sha256}
