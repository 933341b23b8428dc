"""Deletes what has become too old, in small bites.

In: an open transaction, an age in days per kind. Out: how many rows went. It knows no settings and no clock but the
database's. Invariants: a row that no topic has yet stays, however old; of a session that lives, or whose records a
restart would read again, neither its state nor what was decided about its records goes.
"""

from typing import Any

from sqlalchemy import (
    Double,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.deletion import delete_some
from storage.tables import (
    ALERTS,
    CAPTIONS,
    DEAD_LETTERS,
    DUPLICATES,
    EVENTS,
    GAPS,
    PARTITIONS,
    PROGRESS,
    SESSION,
    SESSIONS,
    STREAMS,
    TRANSCRIPTS,
)

RESULTS = {"transcripts": TRANSCRIPTS, "captions": CAPTIONS, "events": EVENTS, "alerts": ALERTS}
KINDS = (
    *RESULTS,
    "dead_letters",
    "sessions",
)  # a session goes with its positions, gaps, duplicates and its stream

_CUTOFF = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("age_s", type_=Double))
_MOST = bindparam("most", type_=Integer)


def _read_for_good(table: Any, offset: Any) -> Any:
    """Whether no restart reads the record at `offset` again."""
    this = and_(PARTITIONS.c.topic == table.c.topic, PARTITIONS.c.partition == table.c.partition)
    passed = PARTITIONS.c.next_offset > offset
    if "generation" in table.c:
        passed = or_(PARTITIONS.c.generation > table.c.generation, passed)
    return exists().where(this, passed)


def _sent(table: Any) -> tuple[Any, Any]:
    return table.c.created_at < _CUTOFF, table.c.published_at.is_not(None)


_DELETE = {name: delete_some(table, *_sent(table)) for name, table in RESULTS.items()}
_DELETE["dead_letters"] = delete_some(
    DEAD_LETTERS, *_sent(DEAD_LETTERS), _read_for_good(DEAD_LETTERS, DEAD_LETTERS.c.offset)
)
_DELETE["duplicates"] = delete_some(
    DUPLICATES, DUPLICATES.c.created_at < _CUTOFF, _read_for_good(DUPLICATES, DUPLICATES.c.offset)
)
_OF_STREAM = and_(SESSIONS.c.tenant_id == STREAMS.c.tenant_id, SESSIONS.c.stream_id == STREAMS.c.stream_id)
_DELETE["streams"] = delete_some(STREAMS, STREAMS.c.created_at < _CUTOFF, ~exists().where(_OF_STREAM))
# One that has not ended counts as dead when nothing of it was stored for that long and nothing waits to be read.
_OLD_SESSIONS = (
    select(*(SESSIONS.c[name] for name in SESSION))
    .where(SESSIONS.c.updated_at < _CUTOFF, _read_for_good(SESSIONS, SESSIONS.c.seen_offset))
    .limit(_MOST)
    .with_for_update(skip_locked=True)
)
_WHOLE_SESSION = (GAPS, PROGRESS, SESSIONS)


async def delete_batch(connection: AsyncConnection, kind: str, age_days: float, limit: int) -> dict[str, int]:
    """Delete at most `limit` older rows of a kind (sessions: so many of them, whole); rows per table."""
    bounds = {"age_s": age_days * 86400, "most": limit}
    if kind == "sessions":
        gone = await _delete_sessions(connection, bounds)
        for name in ("duplicates", "streams"):
            gone[name] = (await connection.execute(_DELETE[name], bounds)).rowcount
        return gone
    return {kind: (await connection.execute(_DELETE[kind], bounds)).rowcount}


async def _delete_sessions(connection: AsyncConnection, bounds: dict[str, Any]) -> dict[str, int]:
    keys = [tuple(row) for row in await connection.execute(_OLD_SESSIONS, bounds)]
    gone = dict.fromkeys((table.name for table in _WHOLE_SESSION), 0)
    if keys:
        for table in _WHOLE_SESSION:
            mine = tuple_(*(table.c[name] for name in SESSION)).in_(keys)
            gone[table.name] = (await connection.execute(delete(table).where(mine))).rowcount
    return gone
