"""The one place that writes: progress and results in one transaction, and the hand-over of rows to their
topics.

In: `Commit` values and messages. Out: rows in PostgreSQL 15 or later. It knows no Kafka and keeps no state
between calls.

Invariants
- A commit is whole or nothing, and nothing at all when its epoch is stale: it takes the partition's row first.
- The same commit twice leaves what it leaves once, so after a lost connection the caller simply tries again.
- Different results never share audio: PostgreSQL refuses (Overlap), and that is a defect, not a dead letter.
- Raises only what storage.connect names, and Fenced.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage import connect, partitions, queries, writes
from storage.connect import Overlap, Refused
from storage.migrate import schema_problem
from storage.state import (
    WHOLE_SESSION,
    Assignment,
    Commit,
    DuplicateRow,
    GapRow,
    SessionState,
    TrackPosition,
)
from streams.messages import Message, SessionKey, Unavailable

__all__ = [
    "WHOLE_SESSION",
    "Assignment",
    "Commit",
    "DuplicateRow",
    "GapRow",
    "Overlap",
    "Refused",
    "SessionState",
    "Store",
    "TrackPosition",
]


class Store:
    """A pool of connections to one database. Made by `Store.open`, given back by `close`."""

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine = engine
        self._address = address
        self._looked_at: dict[type[Message], int] = {}

    @classmethod
    async def open(
        cls, url: SecretStr | str, *, attempts: int = 10, pool_size: int = 4, first_pause_s: float = 0.2
    ) -> "Store":
        """Connect and see that the schema is there. Raises Unavailable when `attempts` tries have failed."""
        address = connect.address(url)
        engine = connect.make_engine(url, pool_size)

        async def attempt() -> None:
            with connect.translated(address):
                problem = await schema_problem(engine)
            if problem is not None:
                raise Unavailable(f"{address}: {problem}")

        try:
            await connect.retry(attempt, attempts=attempts, first_pause_s=first_pause_s)
        except BaseException:
            await engine.dispose()
            raise
        return cls(engine, address)

    async def close(self) -> None:
        await self._engine.dispose()

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment:
        """Take a partition over: its earlier owner is fenced from now on.

        The stored offset is clamped to what the broker has, [earliest, latest]; what was lost is recorded.
        """
        async with self._transaction() as connection:
            return await partitions.assign(connection, topic, partition, cluster_id, earliest, latest)

    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None:
        """The partition that this stream of `topic` is bound to; None while it is not bound on this cluster."""
        async with self._transaction() as connection:
            return await partitions.stream_home(connection, tenant, stream, topic, partition)

    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int:
        """The partition of `topic` that this stream belongs to: the one it was first seen on."""
        async with self._transaction() as connection:
            return await partitions.bind_stream(connection, tenant, stream, topic, partition)

    async def load_session(
        self, key: SessionKey
    ) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
        """A session's state with its tracks and gaps in order; None when nothing of it was ever committed."""
        async with self._transaction() as connection:
            return await queries.load_session(connection, key)

    async def commit(self, commit: Commit) -> list[Message]:
        """Write all of it, or nothing. Commits of one partition must come one after the other.

        Returns the messages that were not there yet: only these may be published as they are.
        Raises Fenced (stale epoch), Unavailable (try the same commit again), Overlap and Refused (defects).
        """
        async with self._transaction() as connection:
            return await writes.write(connection, commit)

    async def mark_published(self, messages: Sequence[Message]) -> None:
        """Record that the topics have these messages (acknowledged by all replicas)."""
        if messages:
            async with self._transaction() as connection:
                await writes.mark_published(connection, messages)

    @contextlib.asynccontextmanager
    async def unsent(self, limit: int, older_than_s: float) -> AsyncIterator[list[Message]]:
        """Up to `limit` committed messages that no topic has, in stream order within each kind.

        They are locked meanwhile (other sweepers skip them) and marked as published when the block ends well. Those
        that it takes out of the list stay as they are; where more than `limit` wait, the next call goes on behind them
        and the one that finds the end begins anew.
        """
        async with contextlib.AsyncExitStack() as transaction:
            # Only our own calls are translated: an error of the block is the caller's, not the database's.
            with connect.translated(self._address):
                connection = await transaction.enter_async_context(self._engine.begin())
                rows = await writes.lock_unsent(connection, limit, older_than_s, self._looked_at)
            messages = [message for message, _ in rows]
            yield messages
            with connect.translated(self._address):
                await writes.mark_rows(connection, rows, messages)
                await transaction.aclose()
            if len(rows) < limit:
                self._looked_at = {}
            elif len(messages) < len(rows) or self._looked_at:
                self._looked_at |= {type(message): row_id for message, row_id in rows}

    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        """(channel, start_sample, end_sample, words) of the live transcripts with text ending after `from_sample`."""
        async with self._transaction() as connection:
            return await queries.talk_intervals(connection, key, from_sample)

    async def counts(self) -> dict[str, int]:
        """Rows per table, and `<table>_unpublished` for those whose topic has not got them. Reads whole tables."""
        async with self._transaction() as connection:
            return await queries.counts(connection)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits when the block ends well; any exception, cancellation included, rolls back."""
        with connect.translated(self._address):
            async with self._engine.begin() as connection:
                yield connection
