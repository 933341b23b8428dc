"""The demo's broker: the edge reads from it what was sent, and each start is a cluster of its own."""

from tests.workers.recorder import Offsets, Recorder
from tests.workers.test_app import edge_settings, produce, running
from workers.app import Edge
from workers.broker_embedded import EMBEDDED_SETTINGS, embedded_broker
from workers.kafka_admin import create_topics, wait_for_broker


async def test_the_edge_reads_from_the_embedded_broker() -> None:
    with embedded_broker() as address, embedded_broker() as other:
        settings = edge_settings(address, "", partitions=1, **EMBEDDED_SETTINGS)
        assert await wait_for_broker(settings) != await wait_for_broker(edge_settings(other, ""))
        await create_topics(settings)
        topic = settings.topics.chunks
        await produce(settings, 0, [b"%d" % n for n in range(5)])
        recorder = Recorder(Offsets(next_offset={(topic, 0): 3}))
        async with running(Edge(settings, recorder)):
            await recorder.until(lambda: len(recorder.records) == 2)
            await recorder.until(lambda: recorder.ends.get((topic, 0)) == 5)
        assert [r.value for r in recorder.records] == [b"3", b"4"]
        assert recorder.ranges == [(0, 5)]
