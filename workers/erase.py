"""Erases a tenant or a stream: rows now, and no way back for them from what the topics still hold.

In: settings and a scope. Out: counts per table, and what stays on which topic until when. The order matters: first the
broker says how far each partition goes and which streams of the scope have records that nobody has read yet, then the
fences stand (storage.erasure), then rows go in batches. It may be called again at any time, and after a crash it must.
Invariant: records that were on the chunk topic when it began lead to no row again, whoever reads them.
"""

from contextlib import aclosing
from dataclasses import dataclass

from storage import erasure
from storage.database import Database, opened
from storage.erasure import Fence, PartitionEnd, Scope
from streams.errors import Unavailable
from streams.messages import known_key
from workers import kafka_log
from workers.kafka_admin import topic_retention, wait_for_broker
from workers.kafka_log import KafkaLog
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Stays:
    """What a topic keeps: records cannot be deleted one by one. None: the broker does not tell."""

    topic: str
    retention_ms: int | None
    until: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """`rows` per table: deleted, or with `done` false, what would be. `nameless_letters` name no tenant and stay."""

    done: bool
    scope: str
    rows: dict[str, int]
    nameless_letters: int
    stays: tuple[Stays, ...]


async def look(settings: Settings, scope: Scope) -> Erasure:
    """What an erasure would delete. Raises Unavailable."""
    async with opened(_url(settings)) as database:
        async with database.transaction() as connection:
            rows = await erasure.counts(connection, scope)
            nameless = await erasure.nameless_letters(connection)
        return Erasure(False, scope.kind, rows, nameless, await _stays(settings))


async def erase(settings: Settings, scope: Scope) -> Erasure:
    """Erase. Raises Unavailable; what was deleted until then stays deleted, and it is to be called again."""
    stays = await _stays(settings)
    async with opened(_url(settings)) as database:
        async with database.transaction() as connection:
            number = await erasure.begin(connection, scope)
        fence = await _fence(settings, database, scope)
        rows = {table.name: fence.gone.get(table.name, 0) for table in erasure.TABLES}
        for name in rows.keys() - fence.gone.keys():
            rows[name] = await _delete(database, scope, name, fence)
        async with database.transaction() as connection:
            await erasure.finish(connection, number, rows)
            nameless = await erasure.nameless_letters(connection)
    return Erasure(True, scope.kind, rows, nameless, stays)


async def _fence(settings: Settings, database: Database, scope: Scope) -> Fence:
    topic = settings.topics.chunks
    cluster_id = await wait_for_broker(settings)
    async with kafka_log.opened(settings) as log:
        async with database.transaction() as connection:
            stored = await erasure.next_offsets(connection, topic)
        ends = await log.ends(topic)
        homes: dict[str, int] = {}
        for end in ends:
            unread = max(end.earliest, stored.get(end.partition) or 0)
            for stream in await _streams(log, end, min(unread, end.latest), scope):
                homes.setdefault(stream, end.partition)
    async with database.transaction() as connection:
        await erasure.forget_fences(connection, ends)
        return await erasure.fence(connection, scope, cluster_id, ends, homes)


async def _streams(log: KafkaLog, end: PartitionEnd, first: int, scope: Scope) -> set[str]:
    """Streams of the scope with records in [first, end.latest)."""
    found = set()
    if first < end.latest:
        async with aclosing(log.records(end.topic, end.partition, first, end.latest)) as records:
            async for record in records:
                key = known_key(record)
                if key is not None and scope.holds(key.tenant_id, key.stream_id):
                    found.add(key.stream_id)
    return found


async def _delete(database: Database, scope: Scope, table: str, fence: Fence) -> int:
    deleted = 0
    while True:
        async with database.transaction() as connection:
            count = await erasure.delete_batch(connection, scope, table, fence.at)
        deleted += count
        if not count:
            return deleted


async def _stays(settings: Settings) -> tuple[Stays, ...]:
    kept = await topic_retention(settings)
    return tuple(Stays(topic, ms, _until(ms)) for topic, ms in kept.items())


def _until(retention_ms: int | None) -> str:
    if retention_ms is None:
        return "as long as the broker keeps them, which it does not tell"
    if retention_ms < 0:
        return "for ever: the topic has no time limit (retention.ms is -1)"
    return "about %.4g days after each was written (retention.ms is %d)" % (
        retention_ms / 86_400_000,
        retention_ms,
    )


def _url(settings: Settings) -> str:
    if settings.database_url is None:
        raise Unavailable("no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    return settings.database_url.get_secret_value()
