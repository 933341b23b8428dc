"""What a harvest asks of the database: transcripts that may be worth a look, and what is said around them.

In: an open connection, one tenant, a range of time. Out: plain rows. It writes nothing and holds no lock. Invariant:
every query names its tenant; only the live run's finals are given, with what other runs say of the same samples.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    Text,
    and_,
    bindparam,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.queries import LIVE_RUN, of_session, session_parameters
from storage.tables import ERASED, SESSIONS, TRANSCRIPTS
from streams.messages import SessionKey

BATCH_ROWS = 1000

_OTHER = TRANSCRIPTS.alias("other")
_SAME_WINDOW = and_(
    *(
        _OTHER.c[name] == TRANSCRIPTS.c[name]
        for name in ("tenant_id", "stream_id", "session_id", "channel", "start_sample", "end_sample")
    )
)
_OTHERS = func.array(
    select(_OTHER.c.text).where(_SAME_WINDOW, _OTHER.c.run_id != TRANSCRIPTS.c.run_id).scalar_subquery(),
    type_=ARRAY(Text),
)
_REDACTED = select(_OTHER.c.id).where(_SAME_WINDOW, _OTHER.c.revision > 0).exists()
_FINALS = (
    select(
        *(
            TRANSCRIPTS.c[name]
            for name in (
                "id",
                "stream_id",
                "session_id",
                "channel",
                "start_sample",
                "end_sample",
                "start_ms",
                "end_ms",
                "text",
                "language",
                "confidence",
                "words",
                "timing_source",
                "model",
            )
        ),
        _OTHERS.label("others"),
        _REDACTED.label("redacted"),
    )
    .where(
        TRANSCRIPTS.c.tenant_id == bindparam("of_tenant"),
        TRANSCRIPTS.c.run_id == bindparam("of_run", type_=Text),
        TRANSCRIPTS.c.revision == 0,
        TRANSCRIPTS.c.is_final,
        TRANSCRIPTS.c.created_at >= bindparam("since", type_=DateTime(timezone=True)),
        TRANSCRIPTS.c.created_at < bindparam("until", type_=DateTime(timezone=True)),
        TRANSCRIPTS.c.id > bindparam("after_id", type_=BigInteger),
    )
    .order_by(TRANSCRIPTS.c.id)
    .limit(bindparam("most", type_=Integer))
)
# Of any channel, run and revision: who else speaks, and whatever else was understood.
_AROUND = select(TRANSCRIPTS.c.text).where(
    of_session(TRANSCRIPTS),
    TRANSCRIPTS.c.end_sample > bindparam("from_sample", type_=BigInteger),
    TRANSCRIPTS.c.start_sample < bindparam("to_sample", type_=BigInteger),
)
_FENCES = select(
    *(ERASED.c[name] for name in ("scope", "topic", "partition", "generation", "end_offset"))
).where(ERASED.c.scope == func.any(bindparam("scopes", type_=ARRAY(Text))))
_PLACE = select(SESSIONS.c.topic, SESSIONS.c.partition, SESSIONS.c.seen_offset).where(of_session(SESSIONS))


@dataclass(frozen=True, slots=True)
class Fence:
    """Records of a scope below `end_offset` are erased."""

    scope: str
    topic: str
    partition: int
    generation: int
    end_offset: int


async def finals(
    connection: AsyncConnection, tenant: str, since: datetime, until: datetime
) -> AsyncIterator[dict[str, Any]]:
    """The final transcripts of a tenant that were stored in [since, until), in the order of their commits."""
    bounds: dict[str, Any] = {"of_tenant": tenant, "of_run": LIVE_RUN, "since": since, "until": until}
    after_id, rows = 0, BATCH_ROWS
    while rows == BATCH_ROWS:
        page = bounds | {"after_id": after_id, "most": BATCH_ROWS}
        found = (await connection.execute(_FINALS, page)).mappings().all()
        rows = len(found)
        for row in found:
            after_id = row["id"]
            yield dict(row)


async def texts_around(
    connection: AsyncConnection, key: SessionKey, from_sample: int, to_sample: int
) -> Sequence[str]:
    """Everything that was understood in a session between two samples, on all channels and in all runs."""
    bounds = session_parameters(key) | {"from_sample": from_sample, "to_sample": to_sample}
    return list((await connection.execute(_AROUND, bounds)).scalars())


async def place_of(connection: AsyncConnection, key: SessionKey) -> tuple[str, int, int] | None:
    """(topic, partition, offset of the last record that was seen) of a session; None when it is forgotten."""
    row = (await connection.execute(_PLACE, session_parameters(key))).one_or_none()
    return None if row is None else (row.topic, row.partition, row.seen_offset)


async def fences(connection: AsyncConnection, scopes: Sequence[str]) -> list[Fence]:
    """The fences of these tenants and streams (by `erasure.digest`)."""
    return [Fence(*row) for row in await connection.execute(_FENCES, {"scopes": list(scopes)})]
