"""From the row to the topic: what is unsent is found once, in order, and equals what was committed."""

import asyncio

import asyncpg
import pytest

from storage.sink import Store
from streams.messages import Message, Topics
from tests.storage.samples import TOPIC, alert, caption, commit, event, letter, transcript

MESSAGES: list[Message] = [
    transcript(0, 100, "one"),
    transcript(100, 200, "two", revision=3, is_final=False, stability=0.5, participant_role="agent"),
    caption(0, 1000),
    event(0, 100),
    event(0, 100, "share", None),
    alert(0, 100),
    letter(5),
    letter(6, channel=1, track="scene", start_sample=16, end_sample=320, start_ms=1, end_ms=20),
]


async def fill(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    t, c, e, a, d = MESSAGES[:2], MESSAGES[2:3], MESSAGES[3:5], MESSAGES[5:6], MESSAGES[6:]
    await store.commit(
        commit(
            epoch,
            transcripts=tuple(t),
            captions=tuple(c),
            events=tuple(e),
            alerts=tuple(a),
            dead_letters=tuple(d),
        )
    )


async def test_unsent_rows_become_the_very_same_records(store: Store) -> None:
    await fill(store)
    async with store.unsent(100, 0) as messages:
        assert messages == MESSAGES
        assert [m.outgoing(Topics()) for m in messages] == [m.outgoing(Topics()) for m in MESSAGES]
    async with store.unsent(100, 0) as messages:
        assert messages == []
    counts = await store.counts()
    assert not any(number for name, number in counts.items() if name.endswith("_unpublished"))


async def test_a_failed_block_leaves_them_unsent(store: Store) -> None:
    await fill(store)
    with pytest.raises(OSError, match=r"^broker$"):  # not taken for an error of the database
        async with store.unsent(100, 0):
            raise OSError("broker")
    async with store.unsent(100, 0) as messages:
        assert messages == MESSAGES


async def test_limit_age_and_order(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    for start in range(0, 500, 100):
        await store.commit(
            commit(
                epoch, transcripts=(transcript(start, start + 100),), captions=(caption(start, start + 100),)
            )
        )
    async with store.unsent(100, 3600) as messages:
        assert messages == []
    async with store.unsent(7, 0) as messages:
        assert messages == [transcript(s, s + 100) for s in range(0, 500, 100)] + [
            caption(0, 100),
            caption(100, 200),
        ]
    async with store.unsent(7, 0) as messages:
        assert messages == [caption(s, s + 100) for s in (200, 300, 400)]


async def test_rows_that_are_left_out_keep_no_other_from_its_turn(store: Store) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 0)).epoch
    said = tuple(transcript(start, start + 100) for start in range(0, 600, 100))
    await store.commit(commit(epoch, transcripts=said, dead_letters=(letter(5), letter(6))))
    large = {*said[:4], MESSAGES[6]}
    seen: list[Message] = []
    for _ in range(5):  # eight rows two by two, and the end
        async with store.unsent(2, 0) as messages:
            seen += messages
            messages[:] = [message for message in messages if message not in large]
    assert seen == [*said, letter(5), letter(6)]
    async with store.unsent(9, 0) as messages:
        assert messages == [*said[:4], letter(5)]
    async with store.unsent(9, 0) as messages:
        assert messages == []


async def test_two_sweepers_share_the_work(store: Store, database_url: str) -> None:
    await fill(store)
    other = await Store.open(database_url, attempts=1)
    async with store.unsent(1, 0) as first, other.unsent(100, 0) as second:
        assert first + second == MESSAGES
    async with store.unsent(100, 0) as third:
        assert third == []
    await other.close()


async def test_mark_published_marks_exactly_these(store: Store, sql: asyncpg.Connection) -> None:
    await fill(store)
    done = [MESSAGES[i] for i in (1, 3, 6)]
    await store.mark_published([*done, transcript(7000, 8000)])
    async with store.unsent(100, 0) as messages:
        assert messages == [message for message in MESSAGES if message not in done]
    marked = await sql.fetchval("SELECT published_at FROM transcripts WHERE revision = 3")
    await store.mark_published(done)
    assert await sql.fetchval("SELECT published_at FROM transcripts WHERE revision = 3") == marked
    await store.mark_published([])


async def test_a_cancelled_sweep_frees_its_rows(store: Store) -> None:
    await fill(store)
    holding = asyncio.Event()

    async def sweep() -> None:
        async with store.unsent(100, 0):
            holding.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(sweep())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.unsent(100, 0) as messages:
        assert messages == MESSAGES
