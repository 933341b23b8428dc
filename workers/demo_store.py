"""Reads a demo's side of Postgres with plain SQL, so that it can be compared with what the topics gave.

In: a database URL and the id of the demo's sessions. Out: `Stored`. It knows nothing of the topics, and
shares no code with `storage`, whose work it checks.
"""

from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from workers.demo_tally import TABLES, Stored

# A dead letter has no column for its id: topic:partition:offset:channel:track:start_sample.
ID: Final[Mapping[str, str]] = {
    "deadletter": 'concat_ws(\':\', topic, "partition", "offset", '
    "coalesce(channel::text, '-'), coalesce(track, '-'), coalesce(start_sample::text, '-'))",
}


async def read(url: str, session_id: str) -> Stored:
    """The rows of the sessions of that name, one per stream. Raises asyncpg's errors and OSError."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read(connection, session_id)
    finally:
        await connection.close()


async def _read(connection: Any, session_id: str) -> Stored:
    ids: dict[str, list[str]] = {}
    unpublished: dict[str, int] = {}
    for kind, table in TABLES.items():
        rows = await connection.fetch(
            "SELECT %s AS id, published_at IS NULL AS waiting FROM %s WHERE session_id = $1"
            % (ID.get(kind, "ce_id"), table),
            session_id,
        )
        ids[kind] = [row["id"] for row in rows]
        unpublished[kind] = sum(row["waiting"] for row in rows)
    progress = await connection.fetch(
        "SELECT stream_id, channel, track, sample FROM progress WHERE session_id = $1", session_id
    )
    ended = await connection.fetch(
        "SELECT stream_id FROM sessions WHERE ended AND session_id = $1", session_id
    )
    return Stored(
        ids=ids,
        unpublished=unpublished,
        positions={(row["stream_id"], row["channel"], row["track"]): row["sample"] for row in progress},
        gaps=await connection.fetchval("SELECT count(*) FROM gaps WHERE session_id = $1", session_id),
        duplicates=await connection.fetchval(
            "SELECT count(*) FROM duplicates WHERE session_id = $1", session_id
        ),
        ended=frozenset(row["stream_id"] for row in ended),
    )
