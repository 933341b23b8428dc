"""Builds with one thing wrong each, to prove that the checker sees it.

Each is the production pipeline between ports of which one does what a careless change would do. Nothing in production
code knows of them. Invariant: `BROKEN` names for each the findings of which at least one must come up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from storage.sink import Assignment, Commit, GapRow, SessionState, TrackPosition
from streams.errors import Unavailable
from streams.messages import DeadLetter, Message, SessionKey, Transcript
from streams.windows import Window
from tests.sim.cluster import Build
from tests.sim.database import Database
from workers.partition import Partition
from workers.pipeline import Pipeline
from workers.pool import Analysis, Poison
from workers.ports import Engine, Publisher, Store
from workers.session import Session

Loaded = tuple[SessionState, list[TrackPosition], list[GapRow]]
NOTHING = Analysis(answers=(), model_name="sim", model_version="1")


class Wrapped:
    """A store that passes everything on."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment:
        return await self.store.assign(topic, partition, cluster_id, earliest, latest)

    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None:
        return await self.store.stream_home(tenant, stream, topic, partition)

    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int:
        return await self.store.bind_stream(tenant, stream, topic, partition)

    async def load_session(self, key: SessionKey) -> Loaded | None:
        return await self.store.load_session(key)

    async def commit(self, commit: Commit) -> Sequence[Message]:
        return await self.store.commit(commit)

    async def mark_published(self, messages: Sequence[Message]) -> None:
        await self.store.mark_published(messages)

    def unsent(self, limit: int, older_than_s: float) -> AbstractAsyncContextManager[list[Message]]:
        return self.store.unsent(limit, older_than_s)

    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        return await self.store.talk_intervals(key, from_sample)


def messages_of(commit: Commit) -> list[Message]:
    return [*commit.transcripts, *commit.captions, *commit.events, *commit.dead_letters]


class OffsetFirst(Pipeline):
    """The offset is stored in a transaction of its own, before the rows."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            async def commit(self, commit: Commit) -> Sequence[Message]:
                bare = Commit(commit.topic, commit.partition, commit.epoch, commit.next_offset)
                await self.store.commit(bare)
                return await self.store.commit(commit)

        super().__init__(store=Broken(store), **rest)


class OffsetOfTheReader(Pipeline):
    """The offset stored is the one read up to, whatever sessions still need."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        where = self.position

        class Broken(Wrapped):
            async def commit(self, commit: Commit) -> Sequence[Message]:
                position = where(commit.topic, commit.partition) or commit.next_offset
                return await self.store.commit(replace(commit, next_offset=position))

        super().__init__(store=Broken(store), **rest)


class PublishFirst(Pipeline):
    """Messages are sent before their rows are committed."""

    def __init__(self, *, store: Store, publisher: Publisher, **rest: Any) -> None:
        class Broken(Wrapped):
            async def commit(self, commit: Commit) -> Sequence[Message]:
                with suppress(Unavailable):
                    await publisher.publish(messages_of(commit))
                return await self.store.commit(commit)

        super().__init__(store=Broken(store), publisher=publisher, **rest)


class MarkFirst(Pipeline):
    """Rows are marked as published before the topics have them."""

    def __init__(self, *, store: Store, publisher: Publisher, **rest: Any) -> None:
        class Broken:
            async def publish(self, messages: Sequence[Message]) -> None:
                await store.mark_published(messages)
                await publisher.publish(messages)

        super().__init__(store=store, publisher=Broken(), **rest)


class ChangedOnRepublish(Pipeline):
    """What the sweep sends is not what was stored."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            @asynccontextmanager
            async def unsent(self, limit: int, older_than_s: float) -> AsyncIterator[list[Message]]:
                async with self.store.unsent(limit, older_than_s) as messages:
                    yield [
                        m.model_copy(update={"confidence": 0.25}) if isinstance(m, Transcript) else m
                        for m in messages
                    ]

        super().__init__(store=Broken(store), **rest)


class DroppedOnRevoke(Pipeline):
    """Windows that are with the engine when a partition is revoked are settled without an answer."""

    def __init__(self, *, engine: Engine, **rest: Any) -> None:
        self._given_up = asyncio.Event()
        given_up = self._given_up

        class Broken:
            async def analyse(
                self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
            ) -> Analysis:
                work = asyncio.ensure_future(
                    engine.analyse(window, tasks, deadline_s=deadline_s, interactive=interactive)
                )
                stop = asyncio.ensure_future(given_up.wait())
                try:
                    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                    return work.result() if work.done() else NOTHING
                finally:
                    work.cancel()
                    stop.cancel()

        super().__init__(engine=Broken(), **rest)

    async def revoked(self, topic: str, partition: int) -> None:
        if self.position(topic, partition) is not None:
            self._given_up.set()
            await asyncio.sleep(0.1)
            self._given_up.clear()
        await super().revoked(topic, partition)


class DuplicatesForgotten(Pipeline):
    """A chunk that came twice is dropped without a trace."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            async def commit(self, commit: Commit) -> Sequence[Message]:
                return await self.store.commit(replace(commit, duplicates=()))

        super().__init__(store=Broken(store), **rest)


class LettersLostOnRetry(Pipeline):
    """A commit that has to be tried again is tried without its dead letters."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            tried: Commit | None = None

            async def commit(self, commit: Commit) -> Sequence[Message]:
                again, self.tried = self.tried is commit, commit
                return await self.store.commit(replace(commit, dead_letters=()) if again else commit)

        super().__init__(store=Broken(store), **rest)


class GapsForgotten(Pipeline):
    """Lost chunks are given up and not recorded."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            async def commit(self, commit: Commit) -> Sequence[Message]:
                return await self.store.commit(replace(commit, gaps=()))

        super().__init__(store=Broken(store), **rest)


class SpeechForgotten(Pipeline):
    """A session that is read again does not know that it stood in the middle of speech."""

    def __init__(self, *, store: Store, **rest: Any) -> None:
        class Broken(Wrapped):
            async def load_session(self, key: SessionKey) -> Loaded | None:
                loaded = await self.store.load_session(key)
                if loaded is None:
                    return None
                state, positions, gaps = loaded
                return state, [replace(p, in_speech=not p.in_speech) for p in positions], gaps

        super().__init__(store=Broken(store), **rest)


class AnswersSwapped(Pipeline):
    """Now and then a window gets the answers of the one before it, whosever that was."""

    def __init__(self, *, engine: Engine, **rest: Any) -> None:
        class Broken:
            before: Analysis | None = None
            asked = 0

            async def analyse(
                self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
            ) -> Analysis:
                mine = await engine.analyse(window, tasks, deadline_s=deadline_s, interactive=interactive)
                before, self.before = self.before, mine
                self.asked += 1
                swapped = before is not None and self.asked % 10 == 0
                return before if swapped and before is not None else mine

        super().__init__(engine=Broken(), **rest)


class PoisonForgotten(Pipeline):
    """A window that no engine process survives is settled as if it were silence."""

    def __init__(self, *, engine: Engine, **rest: Any) -> None:
        class Broken:
            async def analyse(
                self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
            ) -> Analysis:
                try:
                    return await engine.analyse(window, tasks, deadline_s=deadline_s, interactive=interactive)
                except Poison:
                    return NOTHING

        super().__init__(engine=Broken(), **rest)


class SessionsUnbounded(Pipeline):
    """A session is opened whether there is room for it or not."""

    async def _make_room(self, part: Partition) -> None:
        pass


class BytesUnbounded(Pipeline):
    """Sessions keep what they hold, however much it is."""

    async def _bound_memory(self) -> None:
        pass


class WindowsUnbounded(Pipeline):
    """The engine is given windows as they come."""

    async def _wait_for_room(self, part: Partition) -> None:
        pass


class FlushForgets(Pipeline):
    """What a session holds is not settled when it has to make room."""

    async def _flush(self, part: Partition, session: Session, *, wait: bool) -> None:
        session.cutter.finish()
        await super()._flush(part, session, wait=wait)


class Unfenced(Database):
    """A stale epoch is accepted."""

    def fence(self, commit: Commit) -> None:
        pass


class LettersOverwrite(Database):
    """A dead letter that is written again takes the place of the one that was sent."""

    def commit(self, commit: Commit) -> list[Message]:
        new = super().commit(commit)
        for message in commit.dead_letters:
            if message not in new:
                again: DeadLetter = message.model_copy(update={"detail": "once more"})
                self.rows[message.ce_id].message = again
        return new


@dataclass(frozen=True)
class Broken:
    """A broken build and the findings that betray it; one that needs rare luck is looked at from `first` on."""

    build: Build
    betrayed_by: frozenset[str]
    first: int = 0


def _pipeline(build: type[Pipeline], *kinds: str, first: int = 0) -> Broken:
    return Broken(Build(pipeline=build), frozenset(kinds), first)


BROKEN = {
    "offset stored before the commit": _pipeline(OffsetFirst, "row missing", first=37),
    "offset of the reader stored": _pipeline(OffsetOfTheReader, "row missing", "audio without an outcome"),
    "published before the commit": _pipeline(PublishFirst, "published before the commit"),
    "marked before it is published": _pipeline(MarkFirst, "never published"),
    "changed when published again": _pipeline(ChangedOnRepublish, "published differently"),
    "window dropped on revoke": _pipeline(DroppedOnRevoke, "row missing", "audio without an outcome"),
    "duplicates forgotten": _pipeline(DuplicatesForgotten, "record", "duplicate"),
    "dead letters lost on retry": _pipeline(LettersLostOnRetry, "dead letter", first=35),
    "gaps forgotten": _pipeline(GapsForgotten, "gap"),
    "speech forgotten at a restart": _pipeline(SpeechForgotten, "row invented", "row missing"),
    "answers swapped": _pipeline(AnswersSwapped, "wrong audio"),
    "poison forgotten": _pipeline(PoisonForgotten, "dead letter", first=3),
    "sessions without a limit": _pipeline(SessionsUnbounded, "limit"),
    "bytes without a limit": _pipeline(BytesUnbounded, "limit", first=6),
    "windows without a limit": _pipeline(WindowsUnbounded, "limit", first=4),
    "audio forgotten to make room": _pipeline(FlushForgets, "row missing", "stuck"),
    "stale epoch accepted": Broken(Build(database=Unfenced), frozenset({"stale epoch accepted"})),
    "dead letters written over": Broken(
        Build(database=LettersOverwrite), frozenset({"published differently"})
    ),
}
