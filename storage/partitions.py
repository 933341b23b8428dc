"""A partition changes hands, and the offsets it was left at meet what the broker has.

In: an open transaction and the broker's view (cluster id, earliest and latest offset). Out: the new epoch and
where to read on. Invariant: under the partition's row lock the epoch grows by one, so from then on every
write of an earlier owner is refused.

A broker that forgot (another cluster id, or an end before an offset that was read: topic made anew, log cut) gives its
offsets out again. Then everything it has is read from its earliest record, sequences tell what is already
known, and `generation` keeps rows about old offsets apart from rows about new ones. Reading too much costs
time; reading from the end would lose audio that was accepted.
"""

import logging
from dataclasses import dataclass

from sqlalchemy import Row, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import erasure
from storage.state import Assignment
from storage.tables import LOST_RANGES, PARTITIONS, SESSIONS, STREAMS

LOG = logging.getLogger(__name__)
FORGOTTEN = ("cluster_changed", "offsets_went_back")
RETENTION = "retention"

_THIS = (PARTITIONS.c.topic == bindparam("of_topic"), PARTITIONS.c.partition == bindparam("of_partition"))
_SESSIONS_OF_THIS = (
    SESSIONS.c.topic == bindparam("of_topic"),
    SESSIONS.c.partition == bindparam("of_partition"),
)
# From the highest epoch on: a restored backup may be older than a partition's row, and the others have been raised
_HIGHEST = select(func.coalesce(func.max(PARTITIONS.c.epoch), 0)).scalar_subquery()
_FIRST_SEEN = upsert(PARTITIONS).values(epoch=_HIGHEST).on_conflict_do_nothing()
_LOCK = select(PARTITIONS).where(*_THIS).with_for_update()
_SEEN_END = select(func.coalesce(func.max(SESSIONS.c.seen_offset) + 1, 0)).where(*_SESSIONS_OF_THIS)
_TAKE = update(PARTITIONS).where(*_THIS).values(updated_at=func.now())

_CLUSTER = select(PARTITIONS.c.cluster_id).where(*_THIS).scalar_subquery()
_BINDING = upsert(STREAMS).values(cluster_id=func.coalesce(_CLUSTER, ""))
# On another cluster the stream is bound anew; on the same one it stays where it was first seen.
_BIND_STREAM = _BINDING.on_conflict_do_update(
    index_elements=["tenant_id", "stream_id", "topic"],
    set_={"partition": _BINDING.excluded.partition, "cluster_id": _BINDING.excluded.cluster_id},
    where=STREAMS.c.cluster_id != _BINDING.excluded.cluster_id,
).returning(STREAMS.c.partition)
_HOME = select(STREAMS.c.partition).where(
    STREAMS.c.tenant_id == bindparam("tenant_id"),
    STREAMS.c.stream_id == bindparam("stream_id"),
    STREAMS.c.topic == bindparam("topic"),
    STREAMS.c.cluster_id == func.coalesce(_CLUSTER, ""),
)
_BOUND = select(STREAMS.c.partition).where(
    STREAMS.c.tenant_id == bindparam("tenant_id"),
    STREAMS.c.stream_id == bindparam("stream_id"),
    STREAMS.c.topic == bindparam("topic"),
)


@dataclass(frozen=True, slots=True)
class Loss:
    """Records [first_offset, end_offset) that can no longer be read; end None: unknown."""

    first_offset: int
    end_offset: int | None
    reason: str


def clamp(
    next_offset: int | None, *, same_cluster: bool, earliest: int, latest: int, seen_end: int = 0
) -> tuple[int | None, Loss | None]:
    """Where to read on in a partition that holds [earliest, latest), and what is gone.

    `seen_end` is the offset after the last record that a session has seen: `next_offset` may lag far behind it.
    """
    if next_offset is None:
        return None, None
    if not same_cluster:
        return earliest, Loss(next_offset, None, "cluster_changed")
    if (known_end := max(next_offset, seen_end)) > latest:
        return earliest, Loss(latest, known_end, "offsets_went_back")
    if next_offset < earliest:
        return earliest, Loss(next_offset, earliest, RETENTION)
    return next_offset, None


async def assign(
    connection: AsyncConnection, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
) -> Assignment:
    """Bump the epoch, clamp the offset, record what was lost."""
    this = {"of_topic": topic, "of_partition": partition}
    first = {"topic": topic, "partition": partition, "cluster_id": cluster_id, "generation": 0}
    await connection.execute(_FIRST_SEEN, first)
    found = (await connection.execute(_LOCK, this)).one()
    same_cluster = found.cluster_id == cluster_id
    seen_end = (await connection.execute(_SEEN_END, this)).scalar_one()
    next_offset, loss = clamp(
        found.next_offset, same_cluster=same_cluster, earliest=earliest, latest=latest, seen_end=seen_end
    )
    if loss is not None:
        await _record(connection, found, cluster_id, loss)
        await _move_sessions(connection, this, loss, earliest)
    forgotten = not same_cluster or (loss is not None and loss.reason in FORGOTTEN)
    taken = {
        "epoch": found.epoch + 1,
        "next_offset": next_offset,
        "cluster_id": cluster_id,
        "generation": found.generation + int(forgotten),
    }
    await connection.execute(_TAKE.values(taken), this)
    return Assignment(found.epoch + 1, next_offset)


async def stream_home(
    connection: AsyncConnection, tenant: str, stream: str, topic: str, partition: int
) -> int | None:
    """The partition that this stream is bound to on the cluster of `partition`; None while it is not bound.

    An erased stream stays where it was without a row of its own: a fence remembers it.
    """
    row = {"tenant_id": tenant, "stream_id": stream, "topic": topic}
    home: int | None = await connection.scalar(_HOME, row | {"of_topic": topic, "of_partition": partition})
    return await erasure.home_of(connection, tenant, stream, topic) if home is None else home


async def bind_stream(
    connection: AsyncConnection, tenant: str, stream: str, topic: str, partition: int
) -> int:
    """The partition that this stream of `topic` belongs to: the one of its first chunk on this cluster."""
    row = {"tenant_id": tenant, "stream_id": stream, "topic": topic, "partition": partition}
    bound: int | None = await connection.scalar(
        _BIND_STREAM, row | {"of_topic": topic, "of_partition": partition}
    )
    if bound is None:
        bound = (await connection.execute(_BOUND, row)).scalar_one()
    return bound


async def _record(
    connection: AsyncConnection, found: Row[tuple[object, ...]], cluster_id: str, loss: Loss
) -> None:
    lost = {
        "topic": found.topic,
        "partition": found.partition,
        "first_offset": loss.first_offset,
        "end_offset": loss.end_offset,
        "reason": loss.reason,
        "old_cluster_id": found.cluster_id,
        "new_cluster_id": cluster_id,
    }
    await connection.execute(insert(LOST_RANGES), lost)
    LOG.error("records are gone that were not all read", extra=lost)


async def _move_sessions(
    connection: AsyncConnection, this: dict[str, object], loss: Loss, earliest: int
) -> None:
    """No session may wait for an offset that will not come, or take a new record for one it has seen."""
    statement = update(SESSIONS).where(*_SESSIONS_OF_THIS)
    if loss.reason == RETENTION:
        statement = statement.where(SESSIONS.c.resume_offset < earliest, ~SESSIONS.c.ended)
        await connection.execute(statement.values(resume_offset=earliest), this)
    else:
        await connection.execute(statement.values(resume_offset=earliest, seen_offset=earliest - 1), this)
