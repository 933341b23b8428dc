"""The statements of a commit and of the hand-over to topics. In: an open transaction. Who opens it, and
retries, is `storage.sink`.

Every insert leaves a row that is already there as it is, so a commit whose answer was lost can be repeated.
Rows of one kind go as one statement with many parameter sets (one round trip).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Double, Integer, Row, Table, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import erasure
from storage.rows import TABLE_OF, message_of, row_of
from storage.state import Commit
from storage.tables import DEAD_LETTERS, DUPLICATES, GAPS, PARTITIONS, PROGRESS, SESSIONS
from streams.messages import DeadLetter, Fenced, Message

_FENCE = (
    update(PARTITIONS)
    .where(
        PARTITIONS.c.topic == bindparam("of_topic"),
        PARTITIONS.c.partition == bindparam("of_partition"),
        PARTITIONS.c.epoch == bindparam("of_epoch"),
    )
    .values(next_offset=bindparam("new_offset"), updated_at=func.now())
    .returning(PARTITIONS.c.generation)
)


def _upsert(table: Table) -> Any:
    """Insert, or overwrite all but the key and the time of creation."""
    statement = insert(table)
    kept = {*(column.name for column in table.primary_key), "created_at", "updated_at"}
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in kept}
    return statement.on_conflict_do_update(
        constraint=table.primary_key, set_={**changed, "updated_at": func.now()}
    )


_UPSERT_SESSIONS = _upsert(SESSIONS)
_UPSERT_PROGRESS = _upsert(PROGRESS)
_INSERT_GAPS = insert(GAPS).on_conflict_do_nothing()
_INSERT_DUPLICATES = insert(DUPLICATES).on_conflict_do_nothing()
# The conflict is named: with none named, DO NOTHING would also swallow a row that overlaps another.
_INSERT_RESULTS = {
    kind: insert(table).on_conflict_do_nothing(index_elements=["ce_id"]).returning(table.c.ce_id)
    for kind, table in TABLE_OF.items()
    if kind is not DeadLetter
}
_LETTER = ("topic", "partition", "offset", "channel", "track", "start_sample")  # its key within a generation
_INSERT_DEAD_LETTERS = (
    insert(DEAD_LETTERS).on_conflict_do_nothing().returning(*(DEAD_LETTERS.c[name] for name in _LETTER))
)

_MARK_RESULTS = {
    kind: update(table)
    .where(table.c.ce_id == func.any(bindparam("ce_ids", type_=ARRAY(Text))), table.c.published_at.is_(None))
    .values(published_at=func.now())
    for kind, table in TABLE_OF.items()
    if kind is not DeadLetter
}
_GENERATION = (
    select(PARTITIONS.c.generation)
    .where(PARTITIONS.c.topic == bindparam("of_topic"), PARTITIONS.c.partition == bindparam("of_partition"))
    .scalar_subquery()
)
_MARK_DEAD_LETTER = (
    update(DEAD_LETTERS)
    .where(
        DEAD_LETTERS.c.topic == bindparam("of_topic"),
        DEAD_LETTERS.c.partition == bindparam("of_partition"),
        DEAD_LETTERS.c.generation == _GENERATION,
        DEAD_LETTERS.c.offset == bindparam("of_offset"),
        DEAD_LETTERS.c.channel.is_not_distinct_from(
            bindparam("of_channel", type_=DEAD_LETTERS.c.channel.type)
        ),
        DEAD_LETTERS.c.track.is_not_distinct_from(bindparam("of_track", type_=Text)),
        DEAD_LETTERS.c.start_sample.is_not_distinct_from(bindparam("of_start_sample", type_=BigInteger)),
        DEAD_LETTERS.c.published_at.is_(None),
    )
    .values(published_at=func.now())
)
_LOCK_UNSENT = {
    kind: select(table)
    .where(
        table.c.published_at.is_(None),
        table.c.created_at
        <= func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("older_than_s", type_=Double)),
        table.c.id > bindparam("after", type_=BigInteger),
    )
    .order_by(table.c.id)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
    for kind, table in TABLE_OF.items()
}
_MARK_ROWS = {
    kind: update(table)
    .where(table.c.id == func.any(bindparam("ids", type_=ARRAY(BigInteger))))
    .values(published_at=func.now())
    for kind, table in TABLE_OF.items()
}


async def write(connection: AsyncConnection, commit: Commit) -> list[Message]:
    """Everything a commit says; returns the messages whose rows are new.

    Raises Fenced, before anything is written, when its epoch is stale.
    """
    generation = await _fence(connection, commit)
    await _many(connection, _UPSERT_SESSIONS, [_session_row(state) for state in commit.sessions])
    await _many(connection, _UPSERT_PROGRESS, [_keyed(position) for position in commit.positions])
    await _many(connection, _INSERT_GAPS, [_keyed(gap) for gap in commit.gaps])
    duplicates = [_keyed(row) | asdict(row.origin) | {"generation": generation} for row in commit.duplicates]
    dead = [row_of(message) | {"generation": generation} for message in commit.dead_letters]
    erased = await _erased(connection, commit, generation, [*duplicates, *dead])
    await _many(connection, _INSERT_DUPLICATES, [row for row in duplicates if not erased(row)])
    new = await insert_results(
        connection, (commit.transcripts, commit.captions, commit.events, commit.alerts)
    )
    kept = [row for row in dead if not erased(row)]
    letters = {tuple(row) for row in await _many(connection, _INSERT_DEAD_LETTERS, kept)}
    keys = [tuple(row[name] for name in _LETTER) for row in dead]
    return new + _first_of_each(commit.dead_letters, keys, letters)


async def insert_results(connection: AsyncConnection, groups: Iterable[Sequence[Message]]) -> list[Message]:
    """Insert results, each group of one kind; returns those whose rows are new."""
    new: list[Message] = []
    for results in groups:
        if results:
            rows = [row_of(message) for message in results]
            inserted = {
                ce_id for (ce_id,) in await _many(connection, _INSERT_RESULTS[type(results[0])], rows)
            }
            new += _first_of_each(results, [message.ce_id for message in results], inserted)
    return new


async def mark_published(connection: AsyncConnection, messages: Sequence[Message]) -> None:
    """Set `published_at` of the rows of these messages, where it is not set."""
    for kind, statement in _MARK_RESULTS.items():
        ce_ids = sorted(message.ce_id for message in messages if type(message) is kind)
        if ce_ids:
            await connection.execute(statement, {"ce_ids": ce_ids})
    dead = [_dead_letter_key(message) for message in messages if isinstance(message, DeadLetter)]
    await _many(connection, _MARK_DEAD_LETTER, dead)


async def lock_unsent(
    connection: AsyncConnection, limit: int, older_than_s: float, after: Mapping[type[Message], int]
) -> list[tuple[Message, int]]:
    """Messages that no topic has, each kind in the order of its commits, with their row ids. Locks the rows.

    Of each kind, only rows behind the id in `after`.
    """
    found: list[tuple[Message, int]] = []
    for kind, statement in _LOCK_UNSENT.items():
        bounds = {"older_than_s": older_than_s, "most": limit - len(found), "after": after.get(kind, -1)}
        rows = (await connection.execute(statement, bounds)).mappings().all()
        found += [(message_of(kind, row), row["id"]) for row in rows]
        if len(found) >= limit:
            break
    return found


async def mark_rows(
    connection: AsyncConnection, rows: Iterable[tuple[Message, int]], messages: Sequence[Message]
) -> None:
    """Set `published_at` of those rows that `messages` (the same objects) came from."""
    sent = {id(message) for message in messages}
    ids: dict[type[Message], list[int]] = {}
    for message, row_id in rows:
        if id(message) in sent:
            ids.setdefault(type(message), []).append(row_id)
    for kind, numbers in ids.items():
        await connection.execute(_MARK_ROWS[kind], {"ids": numbers})


async def _fence(connection: AsyncConnection, commit: Commit) -> int:
    """Take the partition's row and store its offset; the partition's generation."""
    owner = {"of_topic": commit.topic, "of_partition": commit.partition, "of_epoch": commit.epoch}
    generation: int | None = await connection.scalar(_FENCE, owner | {"new_offset": commit.next_offset})
    if generation is None:
        raise Fenced(f"{commit.topic} {commit.partition}: epoch {commit.epoch} no longer owns the partition")
    return generation


async def _erased(
    connection: AsyncConnection, commit: Commit, generation: int, rows: Sequence[dict[str, Any]]
) -> Callable[[dict[str, Any]], bool]:
    """Tells rows about records that were erased since: read again, they must leave no trace again."""
    streams = sorted({(r["tenant_id"], r["stream_id"]) for r in rows if r["tenant_id"] is not None})
    if not streams:
        return lambda row: False
    ends = await erasure.ends_of(connection, commit.topic, commit.partition, generation, streams)
    return lambda row: bool(row["offset"] < ends.get((row["tenant_id"], row["stream_id"]), 0))


async def _many(
    connection: AsyncConnection, statement: Any, rows: list[dict[str, Any]]
) -> Sequence[Row[Any]]:
    """Execute for every row; what it returns, if it does."""
    if not rows:
        return []
    result = await connection.execute(statement, rows)
    return result.all() if result.returns_rows else []


def _first_of_each(messages: Sequence[Message], keys: list[Any], inserted: set[Any]) -> list[Message]:
    """The messages that made the inserted rows: the first of each key."""
    first = []
    for key, message in zip(keys, messages, strict=True):
        if key in inserted:
            inserted.remove(key)
            first.append(message)
    return first


def _keyed(row: Any) -> dict[str, Any]:
    """A state's fields as columns, its session key spread out."""
    apart = ("key", "origin", "fates")
    columns = {name: getattr(row, name) for name in row.__dataclass_fields__ if name not in apart}
    return columns | asdict(row.key)


def _session_row(state: Any) -> dict[str, Any]:
    return _keyed(state) | {"roles": None if state.roles is None else list(state.roles)}


def _dead_letter_key(message: DeadLetter) -> dict[str, Any]:
    return {f"of_{name}": getattr(message, name) for name in _LETTER}
