"""The real worker, which dies by kill -9 at a named place:

    FAULTS_CRASH=after_pg_commit:17 FAULTS_HITS=hits python -m tests.faults.worker

In: the environment of a worker. `FAULTS_CRASH` names a point and the how-manieth time it is passed; `FAULTS_HITS` is a
file that then gets a line, so that a point that was never reached shows; `FAULTS_SIGNAL` is a signal other than
SIGKILL. Production code knows nothing of this: store, publisher and engine pool are wrapped here, around the real ones.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from storage import writes
from storage.sink import Store
from workers.pool import EnginePool
from workers.publisher import Publisher
from workers.service import run_worker
from workers.settings import load_settings

# name → the call, and whether the blow falls before or after it
POINTS = {
    "after_bind": (Store, "bind_stream", "after"),
    "after_assign": (Store, "assign", "after"),
    "after_load": (Store, "load_session", "after"),
    "after_answer": (EnginePool, "analyse", "after"),
    "before_pg_commit": (Store, "commit", "before"),
    "in_pg_commit": (writes, "write", "after"),  # all is written, nothing is committed
    "after_pg_commit": (Store, "commit", "after"),
    "before_publish": (Publisher, "publish", "before"),
    "mid_publish": (Publisher, "publish", "half"),
    "after_publish": (Publisher, "publish", "after"),
    "before_mark": (Store, "mark_published", "before"),
    "after_mark": (Store, "mark_published", "after"),
    "in_sweep": (Store, "unsent", "sweep"),  # sent by the sweep, not marked yet
}


class Blow:
    """Falls the n-th time."""

    def __init__(self, place: str, hits: str) -> None:
        self._place = place
        self._left = int(place.partition(":")[2])
        self._hits = hits
        self._signal = int(os.environ.get("FAULTS_SIGNAL", signal.SIGKILL))

    def fall(self) -> bool:
        """Die here, if this is the time. Whether it was, where the signal let the process go on."""
        self._left -= 1
        if self._left == 0:
            self.note(self._place)
            os.kill(os.getpid(), self._signal)
        return self._left == 0

    def note(self, line: str) -> None:
        """A line that outlives the process."""
        with open(self._hits, "a", encoding="ascii") as hits:
            hits.write(line + "\n")
            hits.flush()
            os.fsync(hits.fileno())


def arm(place: str, hits: str) -> None:
    """Wrap the call that `place` names. KeyError for a place that is none."""
    owner, name, when = POINTS[place.partition(":")[0]]
    blow = Blow(place, hits)
    wrapped = getattr(owner, name)
    wraps = {"before": _before, "after": _after, "half": _half, "sweep": _sweep}
    setattr(owner, name, wraps[when](wrapped, blow))


def _before(call: Callable[..., Awaitable[Any]], blow: Blow) -> Any:
    async def struck(*args: Any, **more: Any) -> Any:
        if not blow.fall():
            return await call(*args, **more)
        late = asyncio.ensure_future(
            call(*args, **more)
        )  # the write of a process that stood still: it is tried
        late.add_done_callback(lambda done: blow.note(type(done.exception()).__name__))
        return await asyncio.shield(late)

    return struck


def _after(call: Callable[..., Awaitable[Any]], blow: Blow) -> Any:
    async def struck(*args: Any, **more: Any) -> Any:
        answer = await call(*args, **more)
        blow.fall()
        return answer

    return struck


def _half(call: Callable[..., Awaitable[Any]], blow: Blow) -> Any:
    async def struck(publisher: Any, messages: Any) -> Any:
        middle = (len(messages) + 1) // 2
        await call(publisher, messages[:middle])
        blow.fall()
        await call(publisher, messages[middle:])

    return struck


def _sweep(call: Callable[..., Any], blow: Blow) -> Any:
    @asynccontextmanager
    async def struck(*args: Any, **more: Any) -> AsyncIterator[Any]:
        async with call(*args, **more) as messages:
            yield messages
            if messages:
                blow.fall()

    return struck


if __name__ == "__main__":
    if os.environ.get("FAULTS_CRASH"):
        arm(os.environ["FAULTS_CRASH"], os.environ["FAULTS_HITS"])
    raise SystemExit(run_worker(load_settings()))
