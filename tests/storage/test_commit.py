"""One transaction per commit: whole, fenced, repeatable, without overlap."""

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from storage.sink import DuplicateRow, GapRow, Overlap, Refused, Store
from streams.messages import Fenced, Origin, SessionKey
from tests.storage.samples import (
    KEY,
    TOPIC,
    alert,
    caption,
    commit,
    event,
    letter,
    position,
    state,
    transcript,
    until_blocked,
)

FULL = {
    "sessions": (state(),),
    "positions": (position(32000), position(16000, "dialog", -1)),
    "transcripts": (transcript(0, 16000), transcript(16000, 32000)),
    "captions": (caption(0, 160000),),
    "events": (event(0, 16000), event(0, 16000, "share", None)),
    "alerts": (alert(0, 16000),),
    "dead_letters": (letter(3), letter(4, channel=0, track="speech", start_sample=0, end_sample=160)),
    "gaps": (GapRow(KEY, 4, 6, 32000, 48000), GapRow(KEY, None, None, 50000, 60000)),
    "duplicates": (DuplicateRow(Origin(TOPIC, 0, 9), KEY, 2),),
}
ROWS = {
    "sessions": 1,
    "progress": 2,
    "transcripts": 2,
    "captions": 1,
    "events": 2,
    "alerts": 1,
    "dead_letters": 2,
    "gaps": 2,
    "duplicates": 1,
}


async def test_everything_is_written_and_read_back(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    assert await store.load_session(KEY) is None
    await store.commit(commit(epoch, 10, **FULL))
    counts = await store.counts()
    assert {name: counts[name] for name in ROWS} == ROWS
    assert counts["transcripts_unpublished"] == 2
    assert await store.load_session(KEY) == (
        state(),
        [position(16000, "dialog", -1), position(32000)],
        list(FULL["gaps"][:1]),  # one without sequences says nothing of what is read again
    )
    assert (await store.assign(TOPIC, 0, "k", 0, 99)).next_offset == 10


async def test_the_same_commit_twice_leaves_what_it_leaves_once(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    await store.commit(commit(epoch, 10, **FULL))
    once = await store.counts()
    await store.commit(commit(epoch, 10, **FULL))
    assert await store.counts() == once


async def test_a_commit_tells_which_messages_are_new(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    full = commit(epoch, 10, **FULL)
    messages = [*full.transcripts, *full.captions, *full.events, *full.alerts, *full.dead_letters]
    assert await store.commit(full) == messages
    other = {  # the same rows as far as their keys go, said otherwise
        "transcripts": (transcript(0, 16000, "else"), transcript(32000, 48000)),
        "dead_letters": (letter(3, reason="late"), letter(7), letter(7, reason="late")),
    }
    assert await store.commit(commit(epoch, 11, **other)) == [
        other["transcripts"][1],
        other["dead_letters"][1],
    ]
    assert await store.commit(commit(epoch, 12)) == []


async def test_what_became_of_the_records_that_are_read_again(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    ours = {"tenant_id": KEY.tenant_id, "stream_id": KEY.stream_id, "session_id": KEY.session_id}
    letters = (
        letter(9, **ours),
        letter(11, **ours),
        letter(12, **ours, channel=0, track="speech", start_sample=0, end_sample=9),  # of a window
        letter(13, **(ours | {"session_id": "s-2"})),
        letter(14),
        letter(15, **ours, reason="late"),
    )
    duplicates = tuple(DuplicateRow(Origin(TOPIC, 0, offset), KEY, 2) for offset in (8, 10))
    await store.commit(commit(epoch, 8, sessions=(state(10),), dead_letters=letters, duplicates=duplicates))
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert loaded[0].fates == ((10, "duplicate"), (11, "decode"), (15, "late"))
    await store.assign(TOPIC, 0, "k2", 0, 99)  # offsets begin anew: these are other records
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert loaded[0].fates == ()


async def test_later_commits_move_positions(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    await store.commit(commit(epoch, 10, **FULL))
    ended = state(20, ended=True, roles=None)
    moved = replace(position(64000), run_start=48000, in_speech=True)
    await store.commit(commit(epoch, 20, sessions=(ended,), positions=(moved,)))
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert loaded[0] == ended
    assert loaded[1] == [position(16000, "dialog", -1), moved]


async def test_a_zombie_writes_nothing(store: Store, database_url: str) -> None:
    zombie = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    await store.commit(commit(zombie, 7, transcripts=(transcript(0, 100),)))
    other = await Store.open(database_url, attempts=1)
    owner = await other.assign(TOPIC, 0, "k", 0, 50)
    assert (owner.epoch, owner.next_offset) == (zombie + 1, 7)
    before = await store.counts()
    with pytest.raises(Fenced):
        await store.commit(commit(zombie, 20, **FULL))
    assert await store.counts() == before
    await other.commit(commit(owner.epoch, 20, transcripts=(transcript(100, 200),)))
    with pytest.raises(Fenced):  # nobody was ever given this partition
        await other.commit(replace(commit(1), partition=5))
    await other.close()


async def test_assignment_waits_for_a_commit_under_way(store: Store, sql: asyncpg.Connection) -> None:
    first = await store.assign(TOPIC, 0, "k", 0, 0)
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("UPDATE partitions SET next_offset = 33 WHERE topic = $1", TOPIC)
    waiting = asyncio.create_task(store.assign(TOPIC, 0, "k", 0, 50))
    await until_blocked(sql)
    await transaction.commit()
    assert await waiting == replace(first, epoch=first.epoch + 1, next_offset=33)


@pytest.mark.parametrize("kind", ["transcripts", "captions"])
async def test_overlap_is_refused_and_rolls_back(store: Store, kind: str) -> None:
    make = transcript if kind == "transcripts" else caption
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    await store.commit(commit(epoch, 5, **{kind: (make(0, 100), make(100, 200))}))
    before = await store.counts()
    with pytest.raises(Overlap, match=kind):
        await store.commit(commit(epoch, 9, events=(event(0, 100),), **{kind: (make(150, 250),)}))
    assert await store.counts() == before
    assert (await store.assign(TOPIC, 0, "k", 0, 99)).next_offset == 5


async def test_what_is_not_an_overlap(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    same: dict[str, Any] = {"start": 0, "end": 100}
    apart = (
        transcript(**same),
        transcript(**same, channel=1),
        transcript(**same, revision=1),
        transcript(**same, run_id="replay-1"),
        transcript(**same, key=SessionKey("acme", "line-7", "s-2")),
        transcript(**same, key=SessionKey("other", "line-7", "s-1")),
    )
    await store.commit(commit(epoch, 1, transcripts=apart))
    assert (await store.counts())["transcripts"] == len(apart)


async def test_refusals_name_the_rule_and_never_the_text(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    canary = "purple canary phrase"
    for refused in (transcript(100, 100, canary), transcript(0, 100, canary, revision=2**40)):
        with pytest.raises(Refused) as caught:
            await store.commit(commit(epoch, 1, transcripts=(refused,)))
        assert canary not in repr(caught.value) + str(caught.value)
        assert caught.value.__suppress_context__
    assert (await store.counts())["transcripts"] == 0


async def test_two_windows_of_one_chunk_may_both_be_dead(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    both = tuple(letter(3, channel=0, track="speech", start_sample=at, end_sample=at + 9) for at in (0, 900))
    await store.commit(commit(epoch, 4, dead_letters=both))
    assert (await store.counts())["dead_letters"] == 2


async def test_cancelled_commits_leave_nothing_behind(store: Store, sql: asyncpg.Connection) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    transaction = sql.transaction()
    await transaction.start()
    await sql.execute("LOCK TABLE gaps")  # the commit gets half way, and waits there
    work = asyncio.create_task(store.commit(commit(epoch, 10, **FULL)))
    await until_blocked(sql)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await transaction.rollback()
    assert (await store.counts())["sessions"] == 0
    await store.commit(commit(epoch, 10, **FULL))
    assert (await store.counts())["sessions"] == 1
