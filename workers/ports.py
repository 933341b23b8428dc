"""What the pipeline asks of the world: a store, an engine, a publisher and somebody who counts.

In production these are `storage.sink.Store`, `workers.pool.EnginePool`, `workers.publisher.Publisher` and
`workers.telemetry.Telemetry`; the simulator of the tests brings its own. Nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from storage.sink import Assignment, Commit, GapRow, SessionState, TrackPosition
from streams.errors import Unavailable
from streams.messages import Message, SessionKey
from streams.windows import Window
from workers.pool import Analysis


class Store(Protocol):
    """What the pipeline asks of `storage.sink.Store`."""

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment: ...
    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None: ...
    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int: ...
    async def load_session(
        self, key: SessionKey
    ) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None: ...
    async def commit(self, commit: Commit) -> Sequence[Message]: ...
    async def mark_published(self, messages: Sequence[Message]) -> None: ...
    def unsent(self, limit: int, older_than_s: float) -> AbstractAsyncContextManager[list[Message]]: ...
    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]: ...


class Engine(Protocol):
    """What the pipeline asks of `workers.pool.EnginePool`."""

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis: ...


class LeftOut(Unavailable):
    """`messages` were not taken, their topics take nothing so large; all others of the call are acknowledged."""

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__("%d messages are larger than their topics take" % len(messages))
        self.messages = messages


class Publisher(Protocol):
    """What the pipeline asks of `workers.publisher.Publisher`; it may leave out what is too large (`LeftOut`)."""

    async def publish(self, messages: Sequence[Message]) -> None: ...


class Monitor(Protocol):
    """What the pipeline tells `workers.telemetry.Telemetry`."""

    def count(self, name: str, amount: int = 1, **attributes: str) -> None: ...
    def duration(self, name: str, seconds: float, **attributes: str) -> None: ...
