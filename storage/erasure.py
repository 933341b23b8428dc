"""Erases a tenant, or one stream of it, and keeps it erased although its records still lie on the topic.

In: an open transaction; how far each partition of the chunk topic goes. Out: rows deleted and counted. It knows no
Kafka client. Invariant: after `fence`, no record below the fences leads to a row again: earlier owners of the
partitions are refused (their memory goes with them), and whoever reads on finds a session that has settled all of them.

A fence names its tenant or stream by a hash only. It holds for one generation of a partition; records that come after
it are new data and are taken as such.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    ARRAY,
    Integer,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.deletion import delete_some
from storage.state import SessionState
from storage.tables import ERASED, ERASURES, METADATA, PARTITIONS, PROGRESS, SESSIONS, STREAMS
from streams.messages import SessionKey

TABLES = [table for table in METADATA.sorted_tables if "tenant_id" in table.c]
STATE = (SESSIONS, PROGRESS, STREAMS)  # what a worker that takes a partition over would go on from
BATCH_ROWS = 5000

_CURRENT = and_(
    ERASED.c.topic == PARTITIONS.c.topic,
    ERASED.c.partition == PARTITIONS.c.partition,
    ERASED.c.generation == PARTITIONS.c.generation,
)
_HOME = select(ERASED.c.topic, ERASED.c.partition, ERASED.c.end_offset).where(
    _CURRENT, ERASED.c.scope == bindparam("of_scope"), ERASED.c.home
)
_HOME_IN = select(ERASED.c.partition).where(
    _CURRENT,
    ERASED.c.scope == bindparam("of_scope"),
    ERASED.c.home,
    ERASED.c.topic == bindparam("of_topic"),
)
_ENDS = select(ERASED.c.scope, ERASED.c.end_offset).where(
    ERASED.c.scope == func.any(bindparam("scopes", type_=ARRAY(Text))),
    ERASED.c.topic == bindparam("of_topic"),
    ERASED.c.partition == bindparam("of_partition"),
    ERASED.c.generation == bindparam("of_generation"),
)
_LOCK = (
    select(PARTITIONS)
    .where(
        PARTITIONS.c.topic == bindparam("of_topic"),
        PARTITIONS.c.partition == func.any(bindparam("numbers", type_=ARRAY(Integer))),
    )
    .order_by(PARTITIONS.c.partition)
    .with_for_update()
)
_REFUSE_OWNER = (
    update(PARTITIONS)
    .where(PARTITIONS.c.topic == bindparam("of_topic"), PARTITIONS.c.partition == bindparam("of_partition"))
    .values(epoch=PARTITIONS.c.epoch + 1, updated_at=func.now())
)
_FENCE = upsert(ERASED)
_FENCE = _FENCE.on_conflict_do_update(
    constraint=ERASED.primary_key,
    set_={
        "generation": _FENCE.excluded.generation,
        "end_offset": _FENCE.excluded.end_offset,  # a log only grows within a generation
        "home": ERASED.c.home | _FENCE.excluded.home,
        "created_at": func.now(),
    },
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What is erased: all of a tenant, or one stream of it."""

    tenant: str
    stream: str | None = None

    @property
    def kind(self) -> str:
        return "tenant" if self.stream is None else "stream"

    @property
    def digest(self) -> str:
        """The name of this scope that a fence keeps."""
        return digest(self.tenant, self.stream)

    def holds(self, tenant: str, stream: str) -> bool:
        return tenant == self.tenant and self.stream in (None, stream)


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """A partition of the chunk topic as the broker has it: its records lie in [earliest, latest)."""

    topic: str
    partition: int
    earliest: int
    latest: int


@dataclass(frozen=True, slots=True)
class Fence:
    """When a fence was made: what is older goes. `gone`: rows of STATE that went with it."""

    at: datetime
    gone: dict[str, int]


def digest(tenant: str, stream: str | None = None) -> str:
    """SHA-256 of a tenant, or of a tenant and a stream; no pair has the name of another, nor of a tenant."""
    parts = [tenant.encode()] if stream is None else [tenant.encode(), stream.encode()]
    return sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


async def counts(connection: AsyncConnection, scope: Scope) -> dict[str, int]:
    """Rows per table that name this tenant or stream."""
    return {
        table.name: await connection.scalar(
            select(func.count()).select_from(table).where(_of(table, scope)), _parameters(scope)
        )
        or 0
        for table in TABLES
    }


async def nameless_letters(connection: AsyncConnection) -> int:
    """Dead letters whose tenant could not be told: whose they are nobody knows, they go by age only."""
    table = METADATA.tables["dead_letters"]
    query = select(func.count()).select_from(table).where(table.c.tenant_id.is_(None))
    return await connection.scalar(query) or 0


async def next_offsets(connection: AsyncConnection, topic: str) -> dict[int, int | None]:
    """From where each partition that was ever assigned would be read again."""
    query = select(PARTITIONS.c.partition, PARTITIONS.c.next_offset).where(
        PARTITIONS.c.topic == bindparam("of_topic")
    )
    found = await connection.execute(query, {"of_topic": topic})
    return {row.partition: row.next_offset for row in found}


async def fence(
    connection: AsyncConnection,
    scope: Scope,
    cluster_id: str,
    ends: Sequence[PartitionEnd],
    homes: Mapping[str, int],
) -> Fence:
    """Refuse the owners of these partitions (all of one topic) from now on; none reads the scope's records again.

    `homes`: streams of the scope with records that are still to be read, and their partition; others are known. The
    state of the scope's sessions goes at once: whoever takes a partition over now must find the fence, not them.
    """
    topic = ends[0].topic
    first = {"topic": topic, "cluster_id": cluster_id, "epoch": 0, "generation": 0}
    await connection.execute(
        upsert(PARTITIONS).on_conflict_do_nothing(), [first | {"partition": end.partition} for end in ends]
    )
    numbers = {"of_topic": topic, "numbers": [end.partition for end in ends]}
    found = {row.partition: row for row in await connection.execute(_LOCK, numbers)}
    at = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    homes = {**homes, **await _known_homes(connection, scope, topic)}
    fences = []
    for end in ends:
        row = found[end.partition]
        place = {
            "topic": topic,
            "partition": end.partition,
            "generation": row.generation + int(row.cluster_id != cluster_id),
            "end_offset": end.latest,
        }
        at_home = {digest(scope.tenant, s) for s, number in homes.items() if number == end.partition}
        await connection.execute(_REFUSE_OWNER, {"of_topic": topic, "of_partition": end.partition})
        if end.latest > end.earliest:  # else there is nothing to be read again
            names = sorted(at_home | {scope.digest})
            fences += [place | {"scope": name, "home": name in at_home} for name in names]
    if fences:
        await connection.execute(_FENCE, fences)
    gone = {
        table.name: (
            await connection.execute(delete(table).where(_of(table, scope)), _parameters(scope))
        ).rowcount
        for table in STATE
    }
    return Fence(at, gone)


async def delete_batch(connection: AsyncConnection, scope: Scope, table_name: str, until: datetime) -> int:
    """Delete some rows of the scope that are not younger than its fence; how many. Zero: none is left."""
    table = METADATA.tables[table_name]
    old = table.c.created_at <= bindparam("until")
    gone = delete_some(table, _of(table, scope), old)
    bounds = {"until": until, "most": BATCH_ROWS}
    return (await connection.execute(gone, _parameters(scope) | bounds)).rowcount


async def begin(connection: AsyncConnection, scope: Scope) -> int:
    """Open the record of an erasure: when and of what kind, never whose. Returns its number."""
    row = insert(ERASURES).values(scope=scope.kind).returning(ERASURES.c.id)
    return int((await connection.execute(row)).scalar_one())


async def finish(connection: AsyncConnection, number: int, rows_deleted: Mapping[str, int]) -> None:
    """Close the record of an erasure."""
    statement = update(ERASURES).where(ERASURES.c.id == bindparam("number"))
    values = {"rows_deleted": dict(rows_deleted), "finished_at": func.now()}
    await connection.execute(statement.values(values), {"number": number})


async def forget_fences(connection: AsyncConnection, ends: Sequence[PartitionEnd]) -> None:
    """Drop fences below which the broker has no record any more."""
    gone = delete(ERASED).where(
        ERASED.c.topic == bindparam("of_topic"),
        ERASED.c.partition == bindparam("of_partition"),
        ERASED.c.end_offset <= bindparam("earliest"),
    )
    for end in ends:
        place = {"of_topic": end.topic, "of_partition": end.partition, "earliest": end.earliest}
        await connection.execute(gone, place)


async def settled_session(connection: AsyncConnection, key: SessionKey) -> SessionState | None:
    """The state of a session of an erased stream: all its records below the fence are settled, no more is known."""
    name = {"of_scope": digest(key.tenant_id, key.stream_id)}
    found = (
        await connection.execute(_HOME.order_by(ERASED.c.created_at.desc()).limit(1), name)
    ).one_or_none()
    if found is None:
        return None
    return SessionState(
        key=key,
        topic=found.topic,
        partition=found.partition,
        channels=None,
        rate=None,
        roles=None,
        source=None,
        resume_sequence=0,
        resume_offset=found.end_offset,
        seen_offset=found.end_offset - 1,
        ended=False,
    )


async def home_of(connection: AsyncConnection, tenant: str, stream: str, topic: str) -> int | None:
    """The partition that an erased stream was read from; None when nothing of it was erased."""
    place = {"of_scope": digest(tenant, stream), "of_topic": topic}
    found: int | None = await connection.scalar(_HOME_IN.limit(1), place)
    return found


async def ends_of(
    connection: AsyncConnection,
    topic: str,
    partition: int,
    generation: int,
    streams: Sequence[tuple[str, str]],
) -> dict[tuple[str, str], int]:
    """Per (tenant, stream): the offset below which its records of this partition are erased; 0 where none are."""
    names = {pair: (digest(pair[0]), digest(*pair)) for pair in streams}
    place = {
        "scopes": sorted({name for both in names.values() for name in both}),
        "of_topic": topic,
        "of_partition": partition,
        "of_generation": generation,
    }
    found = {row.scope: row.end_offset for row in await connection.execute(_ENDS, place)}
    return {pair: max(found.get(name, 0) for name in both) for pair, both in names.items()}


async def _known_homes(connection: AsyncConnection, scope: Scope, topic: str) -> dict[str, int]:
    """The partition of each stream of the scope that is bound or has a session."""
    homes: dict[str, int] = {}
    for table in (SESSIONS, STREAMS):
        mine = _of(table, scope), table.c.topic == bindparam("of_topic")
        found = await connection.execute(
            select(table.c.stream_id, table.c.partition).where(*mine).distinct(),
            _parameters(scope) | {"of_topic": topic},
        )
        homes |= {row.stream_id: row.partition for row in found}
    return homes


def _of(table: Any, scope: Scope) -> Any:
    mine = table.c.tenant_id == bindparam("of_tenant")
    return mine if scope.stream is None else and_(mine, table.c.stream_id == bindparam("of_stream"))


def _parameters(scope: Scope) -> dict[str, str]:
    given = {"of_tenant": scope.tenant, "of_stream": scope.stream}
    return {name: value for name, value in given.items() if value is not None}
