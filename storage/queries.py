"""What is read back: a session as a restart needs it, who spoke when, how many rows there are.

In: an open connection. Out: plain values. It writes nothing and holds no lock. Every query about results
names its tenant.
"""

from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Integer,
    RowMapping,
    Table,
    Text,
    and_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import erasure
from storage.state import GapRow, SessionState, TrackPosition
from storage.tables import (
    DEAD_LETTERS,
    DUPLICATES,
    GAPS,
    METADATA,
    PARTITIONS,
    PROGRESS,
    SESSION,
    SESSIONS,
    TRANSCRIPTS,
)
from streams.messages import SessionKey

LIVE_RUN = "live"
OPERATORS = ("requeues", "erasures", "replays")  # of those who operate; a worker's role may not read them
MOST_PAST_GAPS = 1000  # of a session, read at a restart


def of_session(table: Table) -> Any:
    """The condition that picks a session's rows; its parameters are those of `session_parameters`."""
    return and_(*(table.c[name] == bindparam(name) for name in SESSION))


def session_parameters(key: SessionKey) -> dict[str, str]:
    return {"tenant_id": key.tenant_id, "stream_id": key.stream_id, "session_id": key.session_id}


LOAD_SESSION = select(SESSIONS).where(of_session(SESSIONS))
LOAD_POSITIONS = select(PROGRESS).where(of_session(PROGRESS)).order_by(PROGRESS.c.channel, PROGRESS.c.track)
# Gaps that reading again crosses: there are never more than chunks after the first that is needed.
LOAD_GAPS = (
    select(GAPS)
    .where(of_session(GAPS), GAPS.c.last_sequence >= bindparam("resume_sequence", type_=BigInteger))
    .order_by(GAPS.c.last_sequence, GAPS.c.id)
)
# Gaps before it only tell a chunk that comes very late from one that comes again.
LOAD_PAST_GAPS = (
    select(GAPS)
    .where(of_session(GAPS), GAPS.c.last_sequence < bindparam("resume_sequence", type_=BigInteger))
    .order_by(GAPS.c.last_sequence.desc(), GAPS.c.id.desc())
    .limit(bindparam("most", type_=Integer))
)


def _of_offsets(table: Table) -> Any:
    """The condition that picks a session's rows about the records that a restart reads again."""
    now = and_(*(PARTITIONS.c[name] == table.c[name] for name in ("topic", "partition", "generation")))
    return and_(
        of_session(table),
        table.c.topic == bindparam("of_topic"),
        table.c.partition == bindparam("of_partition"),
        table.c.offset >= bindparam("from_offset", type_=BigInteger),
        select(PARTITIONS.c.topic).where(now).exists(),
    )


LOAD_FATES = union_all(
    select(DEAD_LETTERS.c.offset, DEAD_LETTERS.c.reason).where(
        _of_offsets(DEAD_LETTERS), DEAD_LETTERS.c.track.is_(None)
    ),
    select(DUPLICATES.c.offset, literal("duplicate").label("reason")).where(_of_offsets(DUPLICATES)),
)

# A later revision may change words (redaction), never who spoke when: the first final is enough. The number of words is
# that of the runs of non-space characters.
TALK_INTERVALS = (
    select(
        TRANSCRIPTS.c.channel,
        TRANSCRIPTS.c.start_sample,
        TRANSCRIPTS.c.end_sample,
        func.regexp_count(TRANSCRIPTS.c.text, literal_column(r"'\S+'")).label("words"),
    )
    .where(
        of_session(TRANSCRIPTS),
        TRANSCRIPTS.c.end_sample > bindparam("from_sample", type_=BigInteger),
        TRANSCRIPTS.c.run_id == bindparam("of_run", type_=Text),
        TRANSCRIPTS.c.revision == 0,
        TRANSCRIPTS.c.is_final,
        TRANSCRIPTS.c.text.regexp_match(literal_column(r"'\S'")),
    )
    .order_by(TRANSCRIPTS.c.start_sample, TRANSCRIPTS.c.channel)
)


async def load_session(
    connection: AsyncConnection, key: SessionKey
) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
    """A session's state with its tracks and the gaps that count in order; None when there is nothing of it.

    What was erased is settled, and nothing else is known of it.
    """
    parameters = session_parameters(key)
    found = (await connection.execute(LOAD_SESSION, parameters)).mappings().one_or_none()
    if found is None:
        erased = await erasure.settled_session(connection, key)
        return None if erased is None else (erased, [], [])
    positions = (await connection.execute(LOAD_POSITIONS, parameters)).mappings().all()
    gaps = await _load_gaps(connection, key, found["resume_sequence"])
    place = {
        "of_topic": found["topic"],
        "of_partition": found["partition"],
        "from_offset": found["resume_offset"],
    }
    fates = (await connection.execute(LOAD_FATES, parameters | place)).all()
    state = _state(key, found, tuple(sorted((row.offset, row.reason) for row in fates)))
    return state, [_position(key, row) for row in positions], gaps


async def talk_intervals(
    connection: AsyncConnection, key: SessionKey, from_sample: int, run_id: str = LIVE_RUN
) -> list[tuple[int, int, int, int]]:
    """(channel, start_sample, end_sample, words) of a run's transcripts with text that end after `from_sample`."""
    bounds = {"from_sample": from_sample, "of_run": run_id}
    found = await connection.execute(TALK_INTERVALS, session_parameters(key) | bounds)
    return [(row.channel, row.start_sample, row.end_sample, row.words) for row in found]


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """Rows per table of a worker, and `<table>_unpublished` of what no topic has yet. Reads whole tables."""
    total = [
        select(literal(name), func.count()).select_from(table)
        for name, table in METADATA.tables.items()
        if name not in OPERATORS
    ]
    waiting = [
        select(literal(f"{name}_unpublished"), func.count())
        .select_from(table)
        .where(table.c.published_at.is_(None))
        for name, table in METADATA.tables.items()
        if "published_at" in table.c and name not in OPERATORS
    ]
    found = await connection.execute(union_all(*total, *waiting))
    return {row[0]: row[1] for row in found}


async def _load_gaps(connection: AsyncConnection, key: SessionKey, resume_sequence: int) -> list[GapRow]:
    """The gaps from `resume_sequence` on, and the latest of those before it.

    Where there were more before it, all that lies before the ones that were read counts as one gap: a chunk of there
    that comes now is kept as late, and never taken for one that was heard already.
    """
    parameters: dict[str, Any] = session_parameters(key) | {"resume_sequence": resume_sequence}
    past = await connection.execute(LOAD_PAST_GAPS, parameters | {"most": MOST_PAST_GAPS + 1})
    gaps = [_gap(key, row) for row in reversed(past.mappings().all())]
    if len(gaps) > MOST_PAST_GAPS:
        gaps[0] = replace(gaps[0], first_sequence=0)
    found = await connection.execute(LOAD_GAPS, parameters)
    return gaps + [_gap(key, row) for row in found.mappings()]


def _state(key: SessionKey, row: RowMapping, fates: tuple[tuple[int, str], ...]) -> SessionState:
    names = set(SessionState.__dataclass_fields__) - {"key", "roles", "fates"}
    roles = None if row["roles"] is None else tuple(row["roles"])
    return SessionState(key=key, roles=roles, fates=fates, **{name: row[name] for name in names})


def _position(key: SessionKey, row: RowMapping) -> TrackPosition:
    return TrackPosition(key, row["channel"], row["track"], row["sample"], row["run_start"], row["in_speech"])


def _gap(key: SessionKey, row: RowMapping) -> GapRow:
    return GapRow(key, row["first_sequence"], row["last_sequence"], row["start_sample"], row["end_sample"])
