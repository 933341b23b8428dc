"""One worker process from start to end: what `eureka worker` runs.

In: settings. Out: an exit status: 0 after a clean end (SIGTERM, SIGINT), 1 when the supervisor should start
it again. It opens store, broker, engine and publisher in that order, each with bounded retry, and closes them
in reverse on every path.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from faust.types import TP

from storage.sink import Store
from streams.errors import EurekaError, Unavailable
from workers.app import Edge, catch_signals
from workers.kafka_admin import check_topics, wait_for_broker
from workers.parts import pipeline_limits, pool_config
from workers.pipeline import Pipeline
from workers.pool import EnginePool
from workers.publisher import Publisher
from workers.settings import Settings, unknown_variables
from workers.telemetry import Telemetry, set_up_logging

log = logging.getLogger(__name__)


def run_worker(settings: Settings) -> int:
    """Run until a signal or a failure; return the exit status."""
    set_up_logging(settings.log_level)
    for name in unknown_variables(os.environ):
        log.warning("no such setting", extra={"variable": name})
    try:
        asyncio.run(_run(settings))
    except EurekaError as error:
        log.error("worker ended", extra={"reason": str(error)})
        return 1
    except Exception:
        log.exception("worker ended by a defect")
        return 1
    log.info("worker stopped")
    return 0


async def _run(settings: Settings) -> None:
    """Start under a signal handler that gives up starting, then serve under one that drains."""
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None
    async with AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, this.cancel)
        try:
            edge, pool = await _start(settings, stack)
        except asyncio.CancelledError:
            log.info("stopped while starting")
            return
        catch_signals(edge)
        await edge.run(_announcer(pool))


async def _start(settings: Settings, stack: AsyncExitStack) -> tuple[Edge, EnginePool]:
    if settings.database_url is None:
        raise Unavailable("no database: set DATABASE_URL, for example postgresql://user@host/eureka")
    telemetry = Telemetry.open(settings)
    stack.callback(telemetry.close)
    store = await Store.open(
        settings.database_url, attempts=settings.database_attempts, pool_size=settings.database_pool_size
    )
    stack.push_async_callback(store.close)
    await wait_for_broker(settings)
    await _look_at_topics(settings)
    pool = EnginePool(pool_config(settings), monitor=telemetry, on_batch=telemetry.batch)
    await pool.start()
    stack.push_async_callback(pool.close)
    publisher = await Publisher.open(settings, telemetry)
    stack.push_async_callback(publisher.close)
    pipeline = Pipeline(
        clock=asyncio.get_running_loop().time,
        store=store,
        engine=pool,
        publisher=publisher,
        limits=pipeline_limits(settings),
        monitor=telemetry,
    )
    stack.callback(_see_failure, pipeline)
    return Edge(settings, pipeline, telemetry), pool


async def _look_at_topics(settings: Settings) -> None:
    states = [state for state in await check_topics(settings) if state.problem]
    for state in states:
        log.warning("topic", extra={"topic": state.name, "problem": state.problem})
    missing = [state.name for state in states if not state.partitions]
    if missing:
        raise Unavailable("missing topics: %s; run `eureka topics create`" % ", ".join(missing))


def _announcer(pool: EnginePool) -> Callable[[list[TP]], None]:
    """Says once that the worker is ready, and after that what it reads."""
    said = "worker ready"

    def announce(taken: list[TP]) -> None:
        nonlocal said
        partitions = ["%s-%d" % tp for tp in taken]
        ready = pool.ready
        log.info(said, extra={"partitions": partitions, "model": ready.model_name, "device": ready.device})
        said = "partitions changed"

    return announce


def _see_failure(pipeline: Pipeline) -> None:
    if pipeline.failed.done():
        with suppress(asyncio.CancelledError):
            pipeline.failed.exception()
    else:
        pipeline.failed.cancel()
