"""A worker process whose database role may neither delete nor make tables does all of its work."""

import asyncio
import signal
from typing import Any

import asyncpg

from tests.servers.kafka import Broker
from tests.storage.test_roles import as_role
from tests.workers.history import call, history_settings, key_of, rows, write
from tests.workers.test_service import lines, worker
from workers.kafka_admin import create_topics

SETTLED_S = 60.0
DONE = """SELECT (SELECT count(*) FROM sessions WHERE ended), (SELECT count(*) FROM transcripts
    WHERE published_at IS NULL), (SELECT count(*) > 0 FROM transcripts)"""


def test_a_worker_works_under_its_role(kafka: Broker, database_url: str, topic_prefix: str) -> None:
    settings = history_settings(kafka, topic_prefix, database_url, drain_grace_s=5.0)
    names = kafka.settings.keys() | {
        *("brokers", "topic_prefix", "group_id", "chunk_partitions", "result_partitions"),
        *("engine_factory", "engine_args", "max_window_s", "drain_grace_s"),
    }
    plain: dict[str, Any] = {name: getattr(settings, name) for name in names}

    async def prepare() -> str:
        await create_topics(settings)
        await write(settings, call(key_of("line", "s1"), 1))
        owner = await asyncpg.connect(database_url)
        try:
            return await as_role(owner, database_url)
        finally:
            await owner.close()

    async def until_done() -> None:
        async with asyncio.timeout(SETTLED_S):
            while True:
                if await rows(settings, DONE) == [(1, 0, True)]:
                    return
                await asyncio.sleep(0.05)

    url = asyncio.run(prepare())
    with worker(**plain, database_url=url) as process:
        asyncio.run(until_done())
        process.send_signal(signal.SIGTERM)
        said = list(lines(process))
        assert process.wait(30) == 0
    assert [line for line in said if line["level"] in ("warning", "error", "critical")] == []
