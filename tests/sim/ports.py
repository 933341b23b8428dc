"""A simulated worker's connections: the store, the engine and the publisher as its pipeline sees them.

In: calls of the pipeline. Out: answers of the `Database`, of a made-up engine and of the topics, after the delays and
with the faults that the weather holds for them. What has been sent is served even if the caller dies or gives up
meanwhile. Invariant: a dead worker's calls change nothing any more, apart from what was on its way already.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from model.answers import ChoiceAnswer, TextAnswer
from storage.sink import Assignment, Commit, GapRow, SessionState, TrackPosition
from streams.errors import Unavailable
from streams.messages import Message, SessionKey, Topics
from streams.windows import Window
from tests.sim.database import Database
from tests.sim.weather import Weather
from workers.pool import Analysis, Poison

T = TypeVar("T")
TOPICS = Topics()
DEADLY_ONE_IN = 24  # windows, where a seed has deadly ones
POISON = "it killed the engine process twice"


class Life(Protocol):
    """The process that a connection belongs to."""

    dead: bool

    def die(self, how: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record on an output topic; `moment` is the length of the database's history then."""

    ce_id: str
    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    moment: int


class Line:
    """A connection of one worker to one dependency."""

    def __init__(self, dependency: str, life: Life, weather: Weather) -> None:
        self._dependency = dependency
        self._life = life
        self._weather = weather

    async def call(self, place: str, serve: Callable[[float], T]) -> T:
        """One round trip. `serve` is told how much arrives (1.0: all). Raises Unavailable, and what `serve` raises."""
        if self._life.dead:
            await asyncio.Event().wait()  # a process that has died goes no further
        served = asyncio.ensure_future(self._serve(place, serve))
        served.add_done_callback(lambda done: done.cancelled() or done.exception())
        answer = await asyncio.shield(served)
        if self._life.dead:
            await asyncio.Event().wait()
        return answer

    async def _serve(self, place: str, serve: Callable[[float], T]) -> T:
        luck = self._weather.draw()
        await asyncio.sleep(luck.there_s)
        if self._weather.away(self._dependency):
            raise Unavailable(f"{self._dependency} is away")
        if luck.how == "caller dies before":
            self._life.die(f"before {place}")
            await asyncio.Event().wait()
        if luck.how == "refused":
            if luck.part < 0.5:
                serve(luck.part)
            raise Unavailable(f"{place} refused")
        answer = serve(1.0)
        if luck.how == "caller dies after":
            self._life.die(f"after {place}")
            await asyncio.Event().wait()
        await asyncio.sleep(luck.back_s)
        if luck.how == "answer lost":
            raise Unavailable(f"the answer to {place} was lost")
        return answer


class StorePort:
    """`workers.ports.Store` over the simulated database."""

    def __init__(self, database: Database, life: Life, weather: Weather) -> None:
        self.database = database
        self._line = Line("store", life, weather)

    async def _call(self, place: str, serve: Callable[[], T]) -> T:
        def whole(part: float) -> T:
            if part < 1.0:
                raise Unavailable(f"{place} rolled back")
            return serve()

        return await self._line.call(place, whole)

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment:
        return await self._call("assign", lambda: self.database.assign(topic, partition))

    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None:
        return await self._call("home", lambda: self.database.streams.get((tenant, stream)))

    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int:
        return await self._call("bind", lambda: self.database.streams.setdefault((tenant, stream), partition))

    async def load_session(
        self, key: SessionKey
    ) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
        return await self._call("load", lambda: self.database.load_session(key))

    async def commit(self, commit: Commit) -> list[Message]:
        return await self._call("commit", lambda: self.database.commit(commit))

    async def mark_published(self, messages: Sequence[Message]) -> None:
        ids = [message.ce_id for message in messages]
        await self._call("mark", lambda: self.database.mark(ids))

    @asynccontextmanager
    async def unsent(self, limit: int, older_than_s: float) -> AsyncIterator[list[Message]]:
        await self._call("sweep", lambda: None)
        rows = self.database.lock_unsent(limit, older_than_s)
        try:
            yield [row.message for row in rows]
            ids = [row.message.ce_id for row in rows]
            await self._call("mark swept", lambda: self.database.mark(ids))
        finally:  # a connection that ends gives its locks back
            for row in rows:
                row.locked = False

    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        return await self._call("talk", lambda: self.database.talk_intervals(key, from_sample))


class PublisherPort:
    """`workers.ports.Publisher` onto the output topics; of a batch that fails, some may have arrived."""

    def __init__(self, topics: list[Delivery], history: list[Any], life: Life, weather: Weather) -> None:
        self._topics = topics
        self._history = history
        self._line = Line("broker", life, weather)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send all and wait for it. Raises Unavailable."""

        def append(part: float) -> None:
            for message in messages[: int(part * len(messages))]:
                out = message.outgoing(TOPICS)
                self._topics.append(
                    Delivery(
                        message.ce_id,
                        out.topic,
                        out.key,
                        out.value,
                        tuple(out.headers),
                        len(self._history),
                    )
                )

        await self._line.call("publish", append)


class EnginePort:
    """`workers.ports.Engine`: one engine process after the other; when one dies its windows go to the next.

    A deadly window kills its process when it would be answered; the second time it is poison.
    """

    def __init__(self, rng: random.Random, weather: Weather, deadly: bool) -> None:
        self._rng = rng
        self._weather = weather
        self._deadly = deadly
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def lose(self) -> None:
        """The engine process dies."""
        self._lost.set_result(None)
        self._lost = asyncio.get_running_loop().create_future()

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        """The answers about one window. Raises Poison."""
        killed = 0
        while True:
            took_s = 0.01 if self._weather.calm else self._rng.choice([0.01, 0.2, 1.0]) * self._rng.random()
            lost, _ = await asyncio.wait({self._lost}, timeout=took_s)
            if lost:
                continue
            if self._deadly and deadly(digest(window.audio)):
                killed += 1
                if killed == 2:
                    raise Poison(POISON)
                self.lose()
                continue
            return answer(window, tasks)


def answer(window: Window, tasks: Sequence[str]) -> Analysis:
    """What the made-up model says: whose audio it was, where it lay, and a hash of its samples."""
    place = f"{window.key.tenant_id}/{window.key.stream_id}/{window.key.session_id} {window.channel}"
    text = f"{place} {window.track} {window.start_sample} {window.end_sample} {digest(window.audio)}"
    question = str(window.track)
    return Analysis(
        answers=(
            TextAnswer(tasks[0], text, "en", 0.5, None, None),
            ChoiceAnswer(tasks[1], question, question, "a", {"a": 0.75, "b": 0.25}),
        ),
        model_name="sim",
        model_version="1",
    )


def digest(audio: npt.NDArray[np.int16]) -> str:
    """A short hash of int16 [n]."""
    return hashlib.sha256(np.ascontiguousarray(audio).tobytes()).hexdigest()[:12]


def deadly(digest_: str) -> bool:
    """Whether a window with this hash kills the process that works on it."""
    return int(digest_, 16) % DEADLY_ONE_IN == 0
