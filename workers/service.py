"""One worker process from start to end: what `eureka worker` runs.

In: settings. Out: an exit status (`workers.exits`): 0 after a clean end (SIGTERM, SIGINT), another one when the
supervisor should start it again. It opens the health endpoint, store, broker, engine and publisher in that order, each
with bounded retry, and closes them in reverse on every path, within `stop_limit_s`.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from faust.types import TP
from pydantic import SecretStr

from storage import connect
from storage.sink import Store
from streams.errors import EurekaError, Unavailable
from workers.app import Edge
from workers.exits import Exit, end_within, guard_loop, status_of
from workers.health import serve_health
from workers.kafka_admin import check_topics, wait_for_broker
from workers.parts import pipeline_limits
from workers.pipeline import Pipeline
from workers.places import tell_uncaught
from workers.pool import EnginePool
from workers.publisher import Publisher
from workers.results import check_questions
from workers.settings import Settings, SettingsError, unknown_variables
from workers.swap import Swapper
from workers.telemetry import Telemetry, set_up_logging
from workers.vitals import Vitals
from workers.watchdog import Stalled

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ASKED = "asked to end"


def run_worker(settings: Settings) -> Exit:
    """Run until a signal or a failure; return the exit status."""
    set_up_logging(settings.log_level)
    tell_uncaught(log.error)
    for name in unknown_variables(os.environ):
        log.warning("no such setting", extra={"variable": name})
    try:
        finished = asyncio.run(_run(settings))
    except (EurekaError, SettingsError, Stalled) as error:
        status = status_of(error)
        log.error("worker ended", extra={"reason": str(error), "status": int(status)})
        return status
    except Exception:
        log.exception("worker ended by a defect")
        return Exit.FAILED
    if not finished:
        log.warning("worker stopped before all was finished", extra={"status": int(Exit.UNFINISHED)})
        return Exit.UNFINISHED
    log.info("worker stopped")
    return Exit.CLEAN


async def _run(settings: Settings) -> bool:
    """Start under a signal handler that gives up starting, then serve under one that drains.

    Returns whether all that was with the engine is committed.
    """
    this = asyncio.current_task()
    assert this is not None
    async with AsyncExitStack() as stack:
        beating = asyncio.create_task(_beating(settings.stall_after_s))
        stack.callback(beating.cancel)
        _on_signals(settings, this.cancel)
        try:
            edge, pool = await _start(settings, stack)
        except asyncio.CancelledError:
            log.info("stopped while starting")
            return True
        except Exception as error:
            _end_soon(settings, error)
            raise
        _on_signals(settings, edge.stop)
        return await edge.run(_announcer(pool))


async def _beating(limit_s: float) -> None:
    beat = guard_loop(limit_s)
    while True:
        beat()
        await asyncio.sleep(1.0)


def _on_signals(settings: Settings, stop: Callable[[], object]) -> None:
    """SIGTERM and SIGINT ask for an end, which then comes in time, whatever hangs."""

    def asked() -> None:
        end_within(settings.drain_grace_s + settings.stop_limit_s, Exit.UNFINISHED, ASKED)
        stop()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, asked)


def _end_soon(settings: Settings, error: Exception) -> None:
    """Closing may hang on what failed."""
    # Texts of other exceptions may hold what must not be logged.
    reason = str(error) if isinstance(error, (EurekaError, SettingsError, Stalled)) else type(error).__name__
    end_within(settings.stop_limit_s, status_of(error), reason)


async def _start(settings: Settings, stack: AsyncExitStack) -> tuple[Edge, EnginePool]:
    # the store is asked at every sweep, which may wait for the broker first
    longest_sweep_s = settings.publish_timeout_s + 2 * settings.sweep_interval_s
    vitals = Vitals(max(settings.health_silence_s, longest_sweep_s))
    await serve_health(settings, vitals, stack)
    url = _database(settings)
    telemetry = Telemetry.open(settings)
    stack.callback(telemetry.close)
    swapper = Swapper(settings, telemetry)
    await swapper.look_ahead()
    store = await Store.open(url, attempts=settings.database_attempts, pool_size=settings.database_pool_size)
    stack.push_async_callback(store.close)
    await wait_for_broker(settings)
    await _look_at_topics(settings)
    pool = await swapper.start(lambda c: EnginePool(c, monitor=telemetry, on_batch=telemetry.batch))
    stack.push_async_callback(pool.close)
    check_questions(pool.questions)
    telemetry.watch("eureka.engine.waiting", lambda: pool.health().waiting)
    telemetry.watch("eureka.engine.running", lambda: pool.health().running)
    telemetry.watch("eureka.checkpoint.behind", lambda: int(swapper.behind))
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
    edge = Edge(
        settings,
        pipeline,
        telemetry,
        excused=lambda: not pool.warm,
        on_failure=lambda error: _end_soon(settings, error),
    )
    vitals.serving(edge, pool, pipeline, swapper.state)
    swapping = asyncio.create_task(swapper.watch(lambda: edge.state().draining), name="checkpoints")
    swapping.add_done_callback(lambda task: _see_defect(task, edge))
    stack.push_async_callback(_cancelled, swapping)
    return edge, pool


def _database(settings: Settings) -> SecretStr:
    """Where the rows go. Raises SettingsError where none, or no PostgreSQL, is named: that is not waited for."""
    if settings.database_url is None:
        raise SettingsError("no database: set DATABASE_URL, for example postgresql://user@host/eureka")
    try:
        connect.address(settings.database_url)
    except Unavailable as error:
        raise SettingsError(str(error)) from None
    return settings.database_url


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


def _see_defect(task: "asyncio.Task[None]", edge: Edge) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        edge.fail(error)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _see_failure(pipeline: Pipeline) -> None:
    if pipeline.failed.done():
        with suppress(asyncio.CancelledError):
            pipeline.failed.exception()
    else:
        pipeline.failed.cancel()
