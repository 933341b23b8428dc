"""Reads a demo's side of Postgres with plain SQL, so that it can be compared with what the topics gave.

In: a database URL and the names of the demo's streams. Out: `Stored`. It knows nothing of the topics, and
shares no code with `storage`, whose work it checks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from workers.demo_tally import TABLES, Stored

# A dead letter has no column for its id: topic:partition:offset:channel:track:start_sample.
ID: Final[Mapping[str, str]] = {
    "deadletter": 'concat_ws(\':\', topic, "partition", "offset", '
    "coalesce(channel::text, '-'), coalesce(track, '-'), coalesce(start_sample::text, '-'))",
}


async def read(url: str, streams: Sequence[str]) -> Stored:
    """The rows of `streams`. Raises asyncpg and OS errors: the demo's own database has gone."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, list(streams))
    finally:
        await connection.close()


async def _read(connection: Any, streams: list[str]) -> Stored:
    ids: dict[str, list[str]] = {}
    unpublished: dict[str, int] = {}
    for kind, table in TABLES.items():
        rows = await connection.fetch(
            "SELECT %s AS id, published_at IS NULL AS waiting FROM %s WHERE stream_id = ANY($1)"
            % (ID.get(kind, "ce_id"), table),
            streams,
        )
        ids[kind] = [row["id"] for row in rows]
        unpublished[kind] = sum(row["waiting"] for row in rows)
    progress = await connection.fetch(
        "SELECT stream_id, channel, track, sample FROM progress WHERE stream_id = ANY($1)", streams
    )
    ended = await connection.fetch(
        "SELECT stream_id FROM sessions WHERE ended AND stream_id = ANY($1)", streams
    )
    return Stored(
        ids=ids,
        unpublished=unpublished,
        positions={(row["stream_id"], row["channel"], row["track"]): row["sample"] for row in progress},
        gaps=await connection.fetchval("SELECT count(*) FROM gaps WHERE stream_id = ANY($1)", streams),
        duplicates=await connection.fetchval(
            "SELECT count(*) FROM duplicates WHERE stream_id = ANY($1)", streams
        ),
        ended=frozenset(row["stream_id"] for row in ended),
    )
