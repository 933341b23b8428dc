"""Reads: right, of one tenant, and by index however long a session is."""

import json
from typing import Any

import asyncpg
from sqlalchemy.dialects import postgresql

from storage.queries import LOAD_GAPS, LOAD_PAST_GAPS, MOST_PAST_GAPS, TALK_INTERVALS
from storage.sink import GapRow, Store
from storage.writes import _LOCK_UNSENT
from streams.messages import SessionKey, Transcript
from streams.order import Duplicate, Late, Orderer
from tests.storage.samples import KEY, TOPIC, commit, state, transcript

HISTORY = """
    INSERT INTO transcripts (ce_id, tenant_id, stream_id, session_id, channel, segment_id, revision, run_id,
        is_final, start_sample, end_sample, start_ms, end_ms, text, model, published_at)
    SELECT format('%s:%s:%s', stream, session, n), 'acme', 'line-' || stream, 's-' || session, n % 2, n::text, 0,
        'live', true, n * 80000, n * 80000 + 64000, n * 5000, n * 5000 + 4000, 'one two three', '{}', now()
    FROM generate_series(1, 3) stream, generate_series(1, 3) session, generate_series(0, 719) n"""


async def test_talk_intervals(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    said = (
        transcript(0, 100, "too early"),
        transcript(100, 200, " two\twords "),
        transcript(150, 300, "one", channel=1),
        transcript(200, 250, "  "),
        transcript(250, 260, "corrected", revision=1),
        transcript(260, 270, "interim", is_final=False),
        transcript(270, 280, "again", run_id="replay-1"),
        transcript(280, 290, "theirs", key=SessionKey("other", KEY.stream_id, KEY.session_id)),
    )
    await store.commit(commit(epoch, transcripts=said))
    assert await store.talk_intervals(KEY, 100) == [(0, 100, 200, 2), (1, 150, 300, 1)]


async def test_long_histories_are_read_by_index(sql: asyncpg.Connection) -> None:
    await sql.execute(HISTORY)
    await sql.execute("UPDATE transcripts SET published_at = NULL WHERE start_sample > 719 * 80000 - 1")
    await sql.execute("VACUUM ANALYZE transcripts")
    session = {"tenant_id": "acme", "stream_id": "line-2", "session_id": "s-3"}
    talk = TALK_INTERVALS.params(**session, from_sample=400 * 80000, of_run="live")
    assert await scans(sql, talk) == {"transcripts_by_session"}
    unsent = _LOCK_UNSENT[Transcript].params(older_than_s=5.0, most=100, after=7)
    assert await scans(sql, unsent) == {"transcripts_unsent"}
    mark = (
        "UPDATE transcripts SET published_at = now() WHERE ce_id = ANY($1::text[]) AND published_at IS NULL"
    )
    assert await scans(sql, mark, ["1:1:5"]) <= {"transcripts_ce_id_key", "transcripts_unsent"}


async def test_a_restart_loads_few_gaps_and_takes_nothing_for_a_duplicate(store: Store) -> None:
    gaps = [GapRow(KEY, n * 10, n * 10 + 1, n * 16_000, n * 16_000 + 3200) for n in range(1, 3001)]
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    await store.commit(commit(epoch, sessions=(state(29_000),), gaps=tuple(reversed(gaps))))
    loaded = await store.load_session(KEY)
    assert loaded is not None
    known = loaded[2]
    assert len(known) == MOST_PAST_GAPS + 1 + 101, "all that reading again crosses, and the latest before"
    assert known[1:] == gaps[-MOST_PAST_GAPS - 101 :]
    orderer: Orderer[str] = Orderer(
        29_000, 1.0, 64, [(g.first_sequence or 0, g.last_sequence or 0) for g in known]
    )
    for sequence, verdict in ((10, Late), (12, Late), (28_991, Late), (28_995, Duplicate), (29_001, Late)):
        assert [type(one) for one in orderer.put(sequence, "chunk", 0.0)] == [verdict], sequence


async def test_gaps_are_read_by_index(sql: asyncpg.Connection) -> None:
    await sql.execute("""INSERT INTO gaps (tenant_id, stream_id, session_id, first_sequence, last_sequence,
        start_sample, end_sample) SELECT 'acme', 'line-' || s, 's-1', n, n, n * 1600, n * 1600 + 1600
        FROM generate_series(1, 3) s, generate_series(1, 5000) n""")
    await sql.execute("VACUUM ANALYZE gaps")
    session = {"tenant_id": "acme", "stream_id": "line-2", "session_id": "s-1"}
    now = LOAD_GAPS.params(**session, resume_sequence=4990)
    past = LOAD_PAST_GAPS.params(**session, resume_sequence=4990, most=MOST_PAST_GAPS + 1)
    assert await scans(sql, now) == await scans(sql, past) == {"gaps_by_sequence"}


async def scans(sql: asyncpg.Connection, statement: Any, *values: object) -> set[str]:
    """Names of the indexes (or `Seq Scan`) by which the planner would read."""
    if not isinstance(statement, str):
        dialect = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
        statement = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    plan = json.loads(await sql.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
    found: set[str] = set()
    nodes = [plan[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Scan" in node["Node Type"] and node["Node Type"] != "Bitmap Heap Scan":
            found.add(node.get("Index Name", node["Node Type"]))
    return found
