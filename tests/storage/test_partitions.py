"""What an owner gets at assignment, and what a broker that lost records does to it."""

import asyncpg
import pytest

from storage.partitions import Loss, clamp
from storage.sink import Assignment, DuplicateRow, Store
from streams.messages import Origin
from tests.storage.samples import KEY, TOPIC, commit, letter, state


@pytest.mark.parametrize(
    ("next_offset", "same_cluster", "expected"),
    [
        (None, True, (None, None)),
        (None, False, (None, None)),
        (5, True, (5, None)),
        (10, True, (10, None)),
        (2, True, (3, Loss(2, 3, "retention"))),
        (12, True, (3, Loss(10, 12, "offsets_went_back"))),
        (5, False, (3, Loss(5, None, "cluster_changed"))),
    ],
)
def test_clamp(next_offset: int | None, same_cluster: bool, expected: tuple[int | None, Loss | None]) -> None:
    assert clamp(next_offset, same_cluster=same_cluster, earliest=3, latest=10) == expected


def test_a_log_that_ends_before_what_a_session_has_seen_went_back() -> None:
    cut = {"same_cluster": True, "earliest": 3, "latest": 10}
    assert clamp(5, seen_end=10, **cut) == (5, None)
    assert clamp(5, seen_end=12, **cut) == (3, Loss(10, 12, "offsets_went_back"))


async def test_a_cut_beyond_the_stored_offset_is_seen(store: Store, sql: asyncpg.Connection) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 100)).epoch
    await store.commit(commit(epoch, 10, sessions=(state(10, seen_offset=60),)))
    assert await store.assign(TOPIC, 1, "k", 0, 50) == Assignment(epoch + 1, None)  # of another one
    assert await store.assign(TOPIC, 0, "k", 0, 61) == Assignment(epoch + 1, 10)
    assert await store.assign(TOPIC, 0, "k", 0, 60) == Assignment(epoch + 2, 0)
    lost = await sql.fetch("SELECT first_offset, end_offset, reason FROM lost_ranges")
    assert [tuple(row) for row in lost] == [(60, 61, "offsets_went_back")]
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert (loaded[0].resume_offset, loaded[0].seen_offset) == (0, -1)
    assert await store.assign(TOPIC, 0, "k", 0, 60) == Assignment(epoch + 3, 0)


async def test_each_assignment_has_its_epoch(store: Store) -> None:
    assert await store.assign(TOPIC, 0, "k", 0, 0) == Assignment(1, None)
    assert await store.assign(TOPIC, 0, "k", 0, 0) == Assignment(2, None)
    assert await store.assign(TOPIC, 1, "k", 0, 0) == Assignment(3, None)  # no number again


async def test_a_partition_that_a_restored_backup_does_not_know_gets_no_epoch_again(
    store: Store, sql: asyncpg.Connection
) -> None:
    """It was first taken after the backup; who has it from then must not write to what was restored."""
    await store.assign(TOPIC, 0, "k", 0, 0)
    zombie = (await store.assign(TOPIC, 1, "k", 0, 0)).epoch
    await sql.execute('DELETE FROM partitions WHERE "partition" = 1')  # as in the backup
    await sql.execute("UPDATE partitions SET epoch = epoch + 1000000")  # as deploy/postgres/restore.sh does
    assert (await store.assign(TOPIC, 1, "k", 0, 0)).epoch > zombie


async def test_retention_moves_the_offset_and_is_recorded(store: Store, sql: asyncpg.Connection) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 100)).epoch
    await store.commit(commit(epoch, 10, sessions=(state(10),)))
    assert await store.assign(TOPIC, 0, "k", 40, 100) == Assignment(epoch + 1, 40)
    lost = await sql.fetch("SELECT first_offset, end_offset, reason FROM lost_ranges")
    assert [tuple(row) for row in lost] == [(10, 40, "retention")]
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert (loaded[0].resume_offset, loaded[0].seen_offset) == (40, 15)
    assert await store.assign(TOPIC, 0, "k", 40, 100) == Assignment(epoch + 2, 40)
    assert (await store.counts())["lost_ranges"] == 1


@pytest.mark.parametrize(("cluster", "reason"), [("k2", "cluster_changed"), ("k", "offsets_went_back")])
async def test_a_broker_that_forgot_is_read_from_its_start(
    store: Store, sql: asyncpg.Connection, cluster: str, reason: str
) -> None:
    epoch = (await store.assign(TOPIC, 0, "k", 0, 100)).epoch
    old = {"dead_letters": (letter(2),), "duplicates": (DuplicateRow(Origin(TOPIC, 0, 3), KEY, 1),)}
    await store.commit(commit(epoch, 50, sessions=(state(50),), **old))
    again = await store.assign(TOPIC, 0, cluster, 0, 6)
    assert again == Assignment(epoch + 1, 0)
    assert await sql.fetchval("SELECT reason FROM lost_ranges") == reason
    loaded = await store.load_session(KEY)
    assert loaded is not None
    assert (loaded[0].resume_sequence, loaded[0].resume_offset, loaded[0].seen_offset) == (50, 0, -1)
    # Offsets begin anew: new rows under old offsets are not taken for old rows.
    await store.commit(commit(again.epoch, 4, **old))
    counts = await store.counts()
    assert (counts["dead_letters"], counts["duplicates"]) == (2, 2)
    await store.mark_published([letter(2)])
    unsent = await sql.fetch("SELECT generation FROM dead_letters WHERE published_at IS NULL")
    assert [row[0] for row in unsent] == [0]


async def test_a_stream_stays_on_its_first_partition(store: Store) -> None:
    await store.assign(TOPIC, 0, "k", 0, 0)
    await store.assign(TOPIC, 1, "k", 0, 0)
    assert await store.stream_home("acme", "line-7", TOPIC, 0) is None
    assert await store.bind_stream("acme", "line-7", TOPIC, 1) == 1
    assert await store.stream_home("acme", "line-7", TOPIC, 0) == 1
    assert await store.stream_home("acme", "line-8", TOPIC, 0) is None
    assert await store.bind_stream("acme", "line-7", TOPIC, 0) == 1
    assert await store.bind_stream("other", "line-7", TOPIC, 0) == 0
    assert await store.bind_stream("acme", "line-7", "audio.chunks.2", 0) == 0
    await store.assign(TOPIC, 0, "k2", 0, 0)  # a new cluster may spread its streams otherwise
    assert await store.stream_home("acme", "line-7", TOPIC, 0) is None
    assert await store.bind_stream("acme", "line-7", TOPIC, 0) == 0
