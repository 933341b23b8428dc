"""How a worker process ends: the exit status for its supervisor, and the last resort where closing hangs.

In: what ended the worker. Out: an `Exit`. Knows no part of the worker. Invariants: once an end has been asked for, the
process is gone after the time given to it, whatever hangs; and it ends where its event loop stands still. Both are
threads that need no event loop. Ending in haste loses nothing: what is not committed is read again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from enum import IntEnum

from streams.errors import Fenced, Unavailable
from workers.watchdog import Stalled

log = logging.getLogger(__name__)
LOOK_S = 0.5


class Exit(IntEnum):
    """Exit statuses of `eureka worker`; 2 is a wrong call."""

    CLEAN = 0  # asked to end; all that was with the engine is committed
    FAILED = 1  # a defect, or settings that cannot be used
    UNAVAILABLE = 3  # broker, database, topics or engine are not to be had within their limits
    STALLED = 4  # there was work and nothing moved: the watchdog
    UNFINISHED = 5  # asked to end; the grace, or the time to close, was over first
    FENCED = 6  # another worker owns a partition that this one took for its own


def status_of(error: Exception) -> Exit:
    """The exit status that an error at the top stands for."""
    match error:
        case Stalled():
            return Exit.STALLED
        case Fenced():
            return Exit.FENCED
        case Unavailable():
            return Exit.UNAVAILABLE
        case _:
            return Exit.FAILED


def end_within(limit_s: float, status: Exit, reason: str) -> None:
    """Have the process gone after `limit_s`, with `status` if it is still there then; `reason`: why it ends at all."""
    last_resort = threading.Timer(limit_s, _end_now, (limit_s, status, reason))
    last_resort.daemon = True
    last_resort.start()


def guard_loop(limit_s: float) -> Callable[[], None]:
    """End the process when what this returns has not been called for `limit_s` (time in which it slept apart)."""
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    def watch() -> None:
        seen, silent_s = -1, 0.0
        while silent_s < limit_s:
            time.sleep(LOOK_S)  # a process that was stopped meanwhile has slept once
            seen, silent_s = beats, silent_s + LOOK_S if seen == beats else 0.0
        log.error("the event loop stands still", extra={"status": int(Exit.STALLED)})
        os._exit(Exit.STALLED)

    threading.Thread(target=watch, name="loop-guard", daemon=True).start()
    return beat


def _end_now(limit_s: float, status: Exit, reason: str) -> None:
    log.error("worker ended in haste", extra={"reason": reason, "limit_s": limit_s, "status": int(status)})
    os._exit(status)
