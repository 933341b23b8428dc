"""What a replay may write: rows of its own run, beside the live ones, and nothing of anybody's progress.

In: commits of a pipeline that reads history. Out: their results under the run's id, and what it asks back. It stands in
for `storage.sink.Store` there. Invariants: no position, offset, epoch, binding, gap or dead letter is written; every
statement names the tenant and the run; a row that is there already stays as it is.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Integer, Table, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import erasure, queries, writes
from storage.database import Database
from storage.rows import TABLE_OF, message_of
from storage.state import Assignment, Commit, GapRow, SessionState, TrackPosition
from storage.tables import CAPTIONS, PARTITIONS, REPLAYS, TRANSCRIPTS
from streams.messages import Alert, Caption, DeadLetter, Event, Fenced, Message, SessionKey, Transcript

_THIS = (
    REPLAYS.c.tenant_id == bindparam("of_tenant"),
    REPLAYS.c.run_id == bindparam("of_run"),
)
_GENERATION = select(PARTITIONS.c.generation).where(
    PARTITIONS.c.topic == bindparam("of_topic"), PARTITIONS.c.partition == bindparam("of_partition")
)

# An erasure locks the row for itself; commits of the live run and this do not wait for one another.
_BEFORE_ERASURE = _GENERATION.with_for_update(read=True, key_share=True)


@dataclass(frozen=True, slots=True)
class Run:
    """One replay: records [first_offset, end_offset) of a partition, read for one stream. `asked`: in which words."""

    tenant_id: str
    run_id: str
    stream_id: str
    session_id: str | None
    topic: str
    partition: int
    generation: int
    first_offset: int
    end_offset: int
    asked: str


async def generation(connection: AsyncConnection, topic: str, partition: int) -> int:
    """How often the broker began to give out this partition's offsets anew."""
    place = {"of_topic": topic, "of_partition": partition}
    return int(await connection.scalar(_GENERATION, place) or 0)


async def load(connection: AsyncConnection, tenant: str, run_id: str) -> tuple[Run, bool] | None:
    """A run as it was first asked for, and whether it was finished."""
    query = select(REPLAYS).where(*_THIS)
    row = (await connection.execute(query, {"of_tenant": tenant, "of_run": run_id})).mappings().one_or_none()
    if row is None:
        return None
    return Run(**{name: row[name] for name in Run.__dataclass_fields__}), row["finished_at"] is not None


async def begin(connection: AsyncConnection, run: Run) -> None:
    """Note a run; one that is noted stays as it is."""
    await connection.execute(insert(REPLAYS).on_conflict_do_nothing(), asdict(run))


async def finish(connection: AsyncConnection, run: Run) -> None:
    """Note that all of a run is stored."""
    this = {"of_tenant": run.tenant_id, "of_run": run.run_id}
    await connection.execute(update(REPLAYS).where(*_THIS).values(finished_at=func.now()), this)


class ReplayStore:
    """The store of one replay. `reached`: the offset that all stored results lie before.

    `only`: nothing is stored but the results of these windows (channel, start_sample, end_sample).
    """

    def __init__(
        self, database: Database, run: Run, *, only: Collection[tuple[int, int, int]] | None = None
    ) -> None:
        self._database = database
        self._run = run
        self._only = only
        self.reached = -1
        self.stored: Counter[str] = Counter()  # new rows by kind
        self.refused: Counter[str] = Counter()  # dead letters by reason; the live run keeps its own

    async def known_windows(self) -> set[tuple[str, str, int, int]]:
        """(session, track, channel, start_sample) of the windows that an earlier attempt has stored."""
        found = set()
        async with self._database.transaction() as connection:
            for track, table in (("speech", TRANSCRIPTS), ("scene", CAPTIONS)):
                columns = (table.c.session_id, table.c.channel, table.c.start_sample)
                query = select(*columns).where(
                    *self._mine(table), table.c.stream_id == bindparam("of_stream")
                )
                rows = await connection.execute(query, self._names() | {"of_stream": self._run.stream_id})
                found |= {(row.session_id, track, row.channel, row.start_sample) for row in rows}
        return found

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment:
        """Nobody's partition changes hands for a replay."""
        return Assignment(0, None)

    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None:
        return partition

    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int:
        return partition

    async def load_session(
        self, key: SessionKey
    ) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
        """A replay begins with nothing."""
        return None

    async def commit(self, commit: Commit) -> Sequence[Message]:
        """Store the results under the run's id; returns those that are new."""
        groups = [
            [m.model_copy(update={"run_id": self._run.run_id}) for m in results if self._takes(m)]
            for results in (commit.transcripts, commit.captions, commit.events, commit.alerts)
        ]
        async with self._database.transaction() as connection:
            await self._refuse_erased(connection)
            new = await writes.insert_results(connection, groups)
        self.stored.update(message.kind for message in new)
        self.refused.update(letter.reason for letter in commit.dead_letters)
        self.reached = commit.next_offset
        return new

    async def mark_published(self, messages: Sequence[Message]) -> None:
        async with self._database.transaction() as connection:
            await writes.mark_published(connection, messages)

    @contextlib.asynccontextmanager
    async def unsent(self, limit: int, older_than_s: float) -> AsyncIterator[list[Message]]:
        """Up to `limit` rows of this run that no topic has; a worker's sweep may take them as well.

        Those that the block takes out of the list stay unsent.
        """
        async with self._database.transaction() as connection:
            unsent: list[tuple[Message, int]] = []
            for kind, table in TABLE_OF.items():
                if kind is DeadLetter:
                    continue
                query = select(table).where(*self._mine(table), table.c.published_at.is_(None))
                query = query.order_by(table.c.id).limit(bindparam("most", type_=Integer))
                bounds = self._names() | {"most": limit - len(unsent)}
                found = await connection.execute(query.with_for_update(skip_locked=True), bounds)
                unsent += [(message_of(kind, row), row["id"]) for row in found.mappings().all()]
            messages = [message for message, _ in unsent]
            yield messages
            await writes.mark_rows(connection, unsent, messages)

    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        async with self._database.transaction() as connection:
            return await queries.talk_intervals(connection, key, from_sample, self._run.run_id)

    async def _refuse_erased(self, connection: AsyncConnection) -> None:
        """Write nothing that is being erased: one of the two comes first. Raises Fenced."""
        run, place = self._run, {"of_topic": self._run.topic, "of_partition": self._run.partition}
        await connection.execute(_BEFORE_ERASURE, place)
        pair = (run.tenant_id, run.stream_id)
        ends = await erasure.ends_of(connection, run.topic, run.partition, run.generation, [pair])
        if run.first_offset < ends[pair]:
            raise Fenced(f"the stream was erased up to offset {ends[pair]} of {run.topic} {run.partition}")

    def _takes(self, message: Transcript | Caption | Event | Alert) -> bool:
        place = (message.channel, message.start_sample, message.end_sample)
        return self._only is None or place in self._only

    def _mine(self, table: Table) -> tuple[Any, Any]:
        return table.c.tenant_id == bindparam("of_tenant"), table.c.run_id == bindparam("of_run")

    def _names(self) -> dict[str, Any]:
        return {"of_tenant": self._run.tenant_id, "of_run": self._run.run_id}
