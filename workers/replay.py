"""Analyses history again, beside live traffic: records that the topic still has, through the same pipeline, into rows
of a run of their own.

In: a stream and a range of time; or dead letters about windows. Out: rows and messages with the run's id. The process,
its engine and its priority are its own. Invariants: nothing of the live run is written (offsets, epochs, positions,
groups); a run id stands for one range of records, so a second call adds only what the first had not stored.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storage import deadletters, erasure, replays
from storage.database import Database, opened
from storage.deadletters import Claim
from storage.erasure import PartitionEnd
from storage.replays import ReplayStore, Run
from streams.errors import EurekaError, Unavailable
from streams.messages import Record, SessionKey, known_key
from streams.windows import Window
from workers import kafka_log, ports
from workers.checkpoints import promoted
from workers.deadletters import Requeued, next_attempt
from workers.kafka_log import Gone, KafkaLog
from workers.outbox import publish_most
from workers.parts import pipeline_limits, pool_config
from workers.pipeline import Pipeline
from workers.pool import Analysis, EnginePool, Poison
from workers.publisher import Publisher
from workers.results import check_questions
from workers.settings import Settings
from workers.telemetry import Telemetry

STEP_S = 0.05
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
LIVE = "live"
PLACE = ("tenant_id", "stream_id", "session_id", "topic", "partition", "generation")
WindowName = tuple[str, int, int, int]  # track, channel, start_sample, end_sample


class NotPossible(EurekaError):
    """What is asked for cannot be replayed; the message says why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records are to be read again: those of a stream (of one session of it) in [begin, end)."""

    tenant: str
    stream: str
    session: str | None = None
    begin: datetime | None = None  # None: from the topic's first record on
    end: datetime | None = None  # None: up to what the topic has now

    def __str__(self) -> str:
        times = ["" if at is None else at.astimezone(UTC).isoformat() for at in (self.begin, self.end)]
        return " ".join([*times, self.session or ""])


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay added. `known`: windows that an earlier call with this run id had stored."""

    run_id: str
    topic: str
    partition: int
    first_offset: int
    end_offset: int
    records: int
    windows: int
    known: int
    added: dict[str, int]
    refused: dict[str, int]


class Chosen:
    """The engine as a replay sees it: at the lowest priority, and only for windows that are wanted and not known."""

    def __init__(
        self,
        pool: EnginePool,
        known: Collection[tuple[str, str, int, int]],
        wanted: Collection[WindowName] | None,
    ) -> None:
        self._pool = pool
        self._known = known
        self._wanted = wanted  # of one session; None: all windows of all sessions
        self.analysed = 0
        self.skipped = 0
        self.met: set[WindowName] = set()
        self.poison: dict[WindowName, str] = {}

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        """Answer, with nothing for a window that is not to be analysed. Raises Poison, Unavailable."""
        name = (str(window.track), window.channel, window.start_sample, window.end_sample)
        known = (window.key.session_id, *name[:3]) in self._known
        wanted = self._wanted is None or name in self._wanted
        if wanted:
            self.met.add(name)
            self.skipped += known
        if known or not wanted:
            return Analysis((), self._pool.model_name, self._pool.model_version)
        self.analysed += 1
        try:
            return await self._pool.analyse(window, tasks, deadline_s=deadline_s, interactive=False)
        except Poison as poison:
            self.poison[name] = poison.detail
            raise


class Clock:
    """Time that goes on faster once all records are read: nothing more will come, so nothing is waited for."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead_s

    def leap(self, seconds: float) -> None:
        self._ahead_s += seconds


async def replay(settings: Settings, asked: Asked, run_id: str | None) -> Replayed:
    """Analyse again what was asked for. Raises Gone, NotPossible, Unavailable."""
    if settings.database_url is None:
        raise Unavailable("no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    run_id = run_id or "replay-%s" % datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    if run_id == LIVE or not RUN_ID.fullmatch(run_id):
        raise NotPossible("a run id has 1 to 100 letters, digits, '.', '_' and '-', and is not 'live'")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings.database_url))
        log = await stack.enter_async_context(kafka_log.opened(settings))
        run, finished = await _run(settings, database, log, asked, run_id)
        store = ReplayStore(database, run)
        if finished:
            return _report(run, store, None, 0)
        async with Machinery(settings) as machinery:
            chosen, records = await machinery.play(log, run, store)
        async with database.transaction() as connection:
            await replays.finish(connection, run)
        return _report(run, store, chosen, records)


async def analyse_letters(
    settings: Settings, database: Database, letters: Sequence[dict[str, Any]], actor: str
) -> list[Requeued]:
    """Give windows that became dead letters to an engine once more; their results go into the run `requeue-ATTEMPT`.

    The letters of a session are answered together: its records are read once.
    """
    said: list[Requeued] = []
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for letter in letters:
        if letter["still_there"]:
            names = (*(letter[name] for name in PLACE), next_attempt(letter)[0])
            groups.setdefault(names, []).append(letter)
        else:
            said.append(Requeued(letter["id"], "refused", "its topic was made anew since"))
    if groups:
        async with kafka_log.opened(settings) as log, Machinery(settings) as machinery:
            for names, group in groups.items():
                said += await _analyse_session(database, log, machinery, group, names[-1], actor)
    return said


class Machinery:
    """Engine process and publisher of a replay, kept from one to the next."""

    def __init__(self, settings: Settings) -> None:
        # One engine process, and nothing of history is left out for its age.
        update = {"engine_processes": 1, "shed_scenes_after_s": None}
        self._settings = settings.model_copy(update=update)
        self._telemetry = Telemetry.off()
        promotion = promoted(self._settings.checkpoints_dir)
        self._pool = EnginePool(pool_config(self._settings, promotion))
        self._publisher: Publisher | None = None

    async def __aenter__(self) -> Machinery:
        self._publisher = await Publisher.open(self._settings, self._telemetry)
        try:
            await self._pool.start()
            check_questions(self._pool.questions)
        except BaseException:
            await self._pool.close()
            await self._publisher.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()
        if self._publisher is not None:
            await self._publisher.close()

    async def play(
        self,
        log: KafkaLog,
        run: Run,
        store: ReplayStore,
        *,
        wanted: Collection[WindowName] | None = None,
    ) -> tuple[Chosen, int]:
        """Read the run's records through a pipeline until all of it is stored and sent; how many there were."""
        assert self._publisher is not None
        chosen = Chosen(self._pool, await store.known_windows(), wanted)
        count = await read_through(self._settings, log, run, store, chosen, self._publisher, self._telemetry)
        await self._send_rest(store)
        return chosen, count

    async def _send_rest(self, store: ReplayStore) -> None:
        """Send rows of the run that an earlier call stored and could not send."""
        assert self._publisher is not None
        found = 1
        while found:
            async with store.unsent(self._settings.sweep_limit, 0) as messages:
                messages[:] = await publish_most(self._publisher, messages)
                found = len(messages)


async def read_through(
    settings: Settings,
    log: KafkaLog,
    run: Run,
    store: ReplayStore,
    engine: ports.Engine,
    publisher: ports.Publisher,
    monitor: ports.Monitor,
    look: Callable[[Record], None] = lambda record: None,
) -> int:
    """Take the run's records through a pipeline until all of them is settled; `look` sees each. How many there were."""
    clock = Clock()
    pipeline = Pipeline(
        clock=clock,
        store=store,
        engine=engine,
        publisher=publisher,
        limits=pipeline_limits(settings),
        monitor=monitor,
    )
    feeding = asyncio.create_task(_feed(settings, pipeline, clock, log, run, store, look))
    try:
        either: set[asyncio.Future[Any]] = {feeding, pipeline.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if pipeline.failed.done():
            pipeline.failed.result()
        return feeding.result()
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await pipeline.drain(0.0)
        if not pipeline.failed.cancel():
            pipeline.failed.exception()  # has been seen


async def _feed(
    settings: Settings,
    pipeline: Pipeline,
    clock: Clock,
    log: KafkaLog,
    run: Run,
    store: ReplayStore,
    look: Callable[[Record], None],
) -> int:
    count = 0
    await pipeline.assigned(run.topic, run.partition, "", run.first_offset, run.end_offset)
    ticked_s = clock()
    async with aclosing(log.records(run.topic, run.partition, run.first_offset, run.end_offset)) as records:
        async for record in records:
            if _is_of(record, run):
                count += 1
                look(record)
                await pipeline.handle(record)
            if clock() - ticked_s >= settings.tick_interval_s:
                ticked_s = clock()
                await pipeline.tick()
    position = pipeline.position(run.topic, run.partition)
    if not count or position is None:
        return count
    pipeline.at_end(run.topic, run.partition, position)
    while store.reached < position:
        clock.leap(settings.tick_interval_s)
        await pipeline.tick()
        await asyncio.sleep(STEP_S)
    await pipeline.drain(settings.drain_grace_s)
    return count


async def _run(
    settings: Settings, database: Database, log: KafkaLog, asked: Asked, run_id: str
) -> tuple[Run, bool]:
    """The run of this id: as it was begun, or as it is asked for now. Raises Gone, NotPossible."""
    topic = settings.topics.chunks
    key = SessionKey(asked.tenant, asked.stream, asked.session or "")
    async with database.transaction() as connection:
        begun = await replays.load(connection, asked.tenant, run_id)
        partition = await deadletters.home(connection, key, topic)
        if begun is None and partition is None:
            raise NotPossible(f"the stream {asked.stream} is not known on {topic}")
        place = (topic, partition) if partition is not None else (topic, begun[0].partition if begun else 0)
        generation = await replays.generation(connection, *place)
        pair = (asked.tenant, asked.stream)
        erased = (await erasure.ends_of(connection, *place, generation, [pair]))[pair]
    if begun is None:
        first, end = await _range(log, *place, asked)
        run = Run(
            asked.tenant, run_id, asked.stream, asked.session, *place, generation, first, end, str(asked)
        )
    else:
        run = begun[0]
        if (run.stream_id, run.asked) != (asked.stream, str(asked)):
            raise NotPossible(f"the run {run_id} was begun for another range: take another run id")
        if run.generation != generation:
            raise Gone(f"{run.topic} {run.partition} was made anew since the run was begun")
    if run.first_offset < erased:
        raise NotPossible(
            f"the stream was erased: its records before offset {erased} of {topic} {run.partition} stay so; "
            "begin later"
        )
    async with database.transaction() as connection:
        await replays.begin(connection, run)
    return run, begun is not None and begun[1]


async def _range(log: KafkaLog, topic: str, partition: int, asked: Asked) -> tuple[int, int]:
    """The offsets of a range of time. Raises Gone where the topic's oldest record is younger than its begin."""
    bounds = _bounds(await log.ends(topic), partition)
    first: int | None = bounds.earliest
    if asked.begin is not None:
        first = await log.offset_at(topic, partition, _ms(asked.begin))
    if first is None or bounds.earliest == bounds.latest:
        raise NotPossible("no record is as young as that")
    if first == bounds.earliest > 0:
        oldest_ms = (await log.record(topic, partition, first)).timestamp_ms
        if asked.begin is None or _ms(asked.begin) < oldest_ms:
            oldest = datetime.fromtimestamp(oldest_ms / 1000, UTC).isoformat()
            raise Gone(f"{topic} {partition}: records before {oldest} are gone; begin there or later")
    end = None if asked.end is None else await log.offset_at(topic, partition, _ms(asked.end))
    return first, bounds.latest if end is None else max(first, end)


async def _analyse_session(
    database: Database,
    log: KafkaLog,
    machinery: Machinery,
    letters: Sequence[dict[str, Any]],
    attempt: int,
    actor: str,
) -> list[Requeued]:
    """Analyse the windows of these letters, all of one session, and mark those that were answered."""
    place = {name: letters[0][name] for name in PLACE}
    bounds = _bounds(await log.ends(place["topic"]), place["partition"])
    run = Run(
        **place,
        first_offset=bounds.earliest,
        end_offset=bounds.latest,
        run_id="requeue-%d" % attempt,
        asked="",
    )
    claims = {letter["id"]: Claim(letter["id"], attempt, None, actor) for letter in letters}
    async with database.transaction() as connection:
        await deadletters.claim(connection, list(claims.values()))
    windows = {_window_of(letter): letter for letter in letters}
    store = ReplayStore(database, run, only={name[1:] for name in windows})
    chosen, _ = await machinery.play(log, run, store, wanted=windows)
    said, answered = [], []
    for name, letter in windows.items():
        if name in chosen.poison:
            detail = "refused again: %s" % chosen.poison[name]
        elif name not in chosen.met:
            detail = "the records that are left do not give this window any more"
        else:
            answered.append(claims[letter["id"]])
            detail = "its results are in the run %s" % run.run_id
            said.append(Requeued(letter["id"], "analysed", detail, run.session_id))
            continue
        said.append(Requeued(letter["id"], "refused", detail))
    async with database.transaction() as connection:
        await deadletters.done(connection, answered)
    return said


def _window_of(letter: dict[str, Any]) -> WindowName:
    return (letter["track"], letter["channel"], letter["start_sample"], letter["end_sample"])


def _is_of(record: Record, run: Run) -> bool:
    """Whether a record belongs to the run's stream (and session)."""
    key = known_key(record)
    if key is None or (key.tenant_id, key.stream_id) != (run.tenant_id, run.stream_id):
        return False
    return run.session_id in (None, key.session_id)


def _bounds(ends: Sequence[PartitionEnd], partition: int) -> PartitionEnd:
    for one in ends:
        if one.partition == partition:
            return one
    raise Gone(f"partition {partition} is not there")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _report(run: Run, store: ReplayStore, chosen: Chosen | None, records: int) -> Replayed:
    return Replayed(
        run_id=run.run_id,
        topic=run.topic,
        partition=run.partition,
        first_offset=run.first_offset,
        end_offset=run.end_offset,
        records=records,
        windows=chosen.analysed if chosen else 0,
        known=chosen.skipped if chosen else 0,
        added=dict(store.stored),
        refused=dict(store.refused),
    )
