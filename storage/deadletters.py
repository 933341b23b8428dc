"""Dead letters for the people who look after them: list, show, and note that one was put back.

In: an open transaction. Out: plain values. It knows no Kafka. Invariant: an attempt to put a letter back is noted
before it is made and marked after it; what was marked is not put back again unless that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Select, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import erasure
from storage.tables import DEAD_LETTERS, PARTITIONS, REQUEUES, SESSIONS, STREAMS
from streams.messages import SessionKey

SHOWN = [column for column in DEAD_LETTERS.c if column.name != "payload_b64"]
_LAST = (
    select(func.max(REQUEUES.c.attempt))
    .where(REQUEUES.c.letter_id == DEAD_LETTERS.c.id)
    .correlate(DEAD_LETTERS)
    .scalar_subquery()
)
_JOINED = DEAD_LETTERS.outerjoin(
    REQUEUES, (REQUEUES.c.letter_id == DEAD_LETTERS.c.id) & (REQUEUES.c.attempt == _LAST)
).outerjoin(
    PARTITIONS,
    (PARTITIONS.c.topic == DEAD_LETTERS.c.topic) & (PARTITIONS.c.partition == DEAD_LETTERS.c.partition),
)
_REQUEUED = (
    REQUEUES.c.attempt.label("requeues"),
    REQUEUES.c.actor.label("requeued_by"),
    REQUEUES.c.session_id.label("requeued_session"),
    REQUEUES.c.done_at.label("requeued_at"),
)
# The offsets of an earlier generation mean other records now.
_NOW = (PARTITIONS.c.generation == DEAD_LETTERS.c.generation).label("still_there")
_BY_ID = DEAD_LETTERS.c.id == func.any(bindparam("ids", type_=ARRAY(BigInteger)))
_LOCK = select(DEAD_LETTERS.c.id).where(_BY_ID).with_for_update(skip_locked=True)
_MADE = select(REQUEUES.c.letter_id, REQUEUES.c.attempt).where(
    REQUEUES.c.letter_id == func.any(bindparam("ids", type_=ARRAY(BigInteger))),
    REQUEUES.c.done_at.is_not(None),
)
_CLAIM = insert(REQUEUES).on_conflict_do_nothing()
_DONE = (
    update(REQUEUES)
    .where(REQUEUES.c.letter_id == bindparam("of_letter"), REQUEUES.c.attempt == bindparam("of_attempt"))
    .values(done_at=func.now())
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters; None asks for nothing in particular."""

    reason: str | None = None
    tenant: str | None = None
    stream: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt to put a letter back. `session_id`: the session of its own that it goes into, if it does."""

    letter_id: int
    attempt: int
    session_id: str | None
    actor: str


async def find(connection: AsyncConnection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """The newest `limit` dead letters that are wanted, the newest first, without their payloads."""
    query = _wanted(select(*SHOWN, *_REQUEUED, _NOW).select_from(_JOINED), wanted)
    query = query.order_by(DEAD_LETTERS.c.id.desc()).limit(bindparam("most"))
    found = await connection.execute(query, _parameters(wanted) | {"most": limit})
    return [dict(row) for row in found.mappings()]


async def matching(connection: AsyncConnection, wanted: Wanted, limit: int) -> list[int]:
    """Ids of the oldest `limit` dead letters that are wanted and were not put back yet, in order of commits."""
    query = _wanted(select(DEAD_LETTERS.c.id).select_from(_JOINED), wanted)
    query = query.where(REQUEUES.c.done_at.is_(None)).order_by(DEAD_LETTERS.c.id).limit(bindparam("most"))
    return list((await connection.scalars(query, _parameters(wanted) | {"most": limit})).all())


async def load(connection: AsyncConnection, ids: Sequence[int]) -> list[dict[str, Any]]:
    """These dead letters with all their columns and their last requeue, in the order of their place in Kafka."""
    query = select(DEAD_LETTERS, *_REQUEUED, _NOW).select_from(_JOINED).where(_BY_ID)
    query = query.order_by(DEAD_LETTERS.c.topic, DEAD_LETTERS.c.partition, DEAD_LETTERS.c.offset)
    return [dict(row) for row in (await connection.execute(query, {"ids": list(ids)})).mappings()]


async def claim(connection: AsyncConnection, claims: Sequence[Claim]) -> None:
    """Note attempts; one that is noted already stays as it is."""
    names = ("letter_id", "attempt", "session_id", "actor")
    rows = [{name: getattr(one, name) for name in names} for one in claims]
    if rows:
        await connection.execute(_CLAIM, rows)


async def lock(connection: AsyncConnection, claims: Sequence[Claim]) -> set[int]:
    """Lock the letters of these attempts; returns those that nobody else has made, or makes at this moment."""
    free = set((await connection.scalars(_LOCK, {"ids": [one.letter_id for one in claims]})).all())
    made = await connection.execute(_MADE, {"ids": sorted(free)})
    attempts = {one.letter_id: one.attempt for one in claims}
    return free - {row.letter_id for row in made if row.attempt == attempts[row.letter_id]}


async def done(connection: AsyncConnection, claims: Sequence[Claim]) -> None:
    """Mark attempts as made."""
    rows = [{"of_letter": one.letter_id, "of_attempt": one.attempt} for one in claims]
    if rows:
        await connection.execute(_DONE, rows)


async def is_known(connection: AsyncConnection, key: SessionKey) -> bool:
    """Whether anything of this session was ever committed."""
    query = select(SESSIONS.c.topic).where(
        SESSIONS.c.tenant_id == bindparam("tenant"),
        SESSIONS.c.stream_id == bindparam("stream"),
        SESSIONS.c.session_id == bindparam("session"),
    )
    parameters = {"tenant": key.tenant_id, "stream": key.stream_id, "session": key.session_id}
    return await connection.scalar(query, parameters) is not None


async def home(connection: AsyncConnection, key: SessionKey, topic: str) -> int | None:
    """The partition that the session's stream is bound to, or was when it was erased."""
    query = select(STREAMS.c.partition).where(
        STREAMS.c.tenant_id == bindparam("tenant"),
        STREAMS.c.stream_id == bindparam("stream"),
        STREAMS.c.topic == bindparam("topic"),
    )
    parameters = {"tenant": key.tenant_id, "stream": key.stream_id, "topic": topic}
    found: int | None = await connection.scalar(query, parameters)
    return await erasure.home_of(connection, key.tenant_id, key.stream_id, topic) if found is None else found


def _wanted(query: Select[Any], wanted: Wanted) -> Select[Any]:
    columns = DEAD_LETTERS.c
    if wanted.reason is not None:
        query = query.where(columns.reason == bindparam("reason"))
    if wanted.tenant is not None:
        query = query.where(columns.tenant_id == bindparam("tenant"))
    if wanted.stream is not None:
        query = query.where(columns.stream_id == bindparam("stream"))
    if wanted.since is not None:
        query = query.where(columns.created_at >= bindparam("since"))
    return query


def _parameters(wanted: Wanted) -> dict[str, Any]:
    given = {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
    return {name: value for name, value in given.items() if value is not None}
