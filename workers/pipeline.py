"""The main path: a record of audio in, rows in Postgres and messages on the topics out, nothing lost and nothing twice.

    record → parse → session (order → decode → windows) → engine → rows → commit → publish → offset

The way from rows on is `workers.committer`'s and `workers.outbox`'s.

In: records of the partitions assigned to this process, in offset order per partition. Out: commits and messages.
Clock, store, engine and publisher are arguments and all waiting is asyncio's, so a simulator can drive it. It does
not know Faust or SQL.

Invariants
- One transaction carries rows, positions and the partition's next offset; the store is the only truth about progress.
- Per track, steps are committed in order; a slow caption never delays a transcript.
- A partition's state in memory belongs to one epoch: it is dropped at revocation, and a write with a stale
  epoch is refused.
- Anything unexpected ends up in `failed`, and the process stops: redelivery is the way back.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from streams.errors import Fenced, Reject
from streams.messages import Chunk, Record, SessionEnd, dead_letter, parse
from streams.windows import Track, Window
from workers.committer import Committer
from workers.outbox import Outbox, SweepLimits
from workers.partition import Partition
from workers.pool import Poison
from workers.ports import Engine, Monitor, Publisher, Store
from workers.results import TASKS, poisoned, rows, shed
from workers.retry import Retry
from workers.session import Session, SessionLimits, Step, audible
from workers.watchdog import Pulse

log = logging.getLogger(__name__)
FLUSHED_SHARE = 8  # of the sessions that may be open, one in so many makes room at a time
REMEMBERED_STREAMS = 10_000  # per partition; the others are asked of the store again


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """Every bound of the pipeline. Times in seconds."""

    session: SessionLimits
    max_chunk_bytes: int
    max_inflight_windows: int
    max_uncommitted_records: int
    idle_flush_s: float
    sweep_interval_s: float
    sweep_older_than_s: float  # younger rows are on their way in the process that committed them
    sweep_batch: int
    speech_deadline_s: float
    scene_deadline_s: float
    live_lag_records: int
    max_sessions: int = 10_000  # open at a time, over all partitions; the others are in the store
    max_held_bytes: int = 1 << 30  # of chunks that wait and audio that is not settled, over all sessions
    retry_first_s: float = 0.1
    retry_most_s: float = 5.0
    shed_scenes_after_s: float | None = (
        None  # scene windows read later than that are not analysed; None: all are
    )


class Pipeline:
    """The pipeline of one worker process over all its assigned partitions."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        store: Store,
        engine: Engine,
        publisher: Publisher,
        limits: PipelineLimits,
        monitor: Monitor,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`wall_clock` is compared with the time stamps of records, for nothing but their age."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._store = store
        self._engine = engine
        self._publisher = publisher
        self._limits = limits
        self._monitor = monitor
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._room = asyncio.Condition()
        self._retry = Retry(clock, limits.retry_first_s, limits.retry_most_s)
        sweeps = SweepLimits(limits.sweep_interval_s, limits.sweep_older_than_s, limits.sweep_batch)
        self._outbox = Outbox(store, publisher, monitor, self._retry, sweeps, clock)
        self._committer = Committer(
            store, self._outbox, monitor, self._retry, limits.session.dialog, self._tell_room
        )
        self._draining = False
        self._moves = 0  # goes up with whatever gets done
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def _inflight(self) -> int:
        # per partition: a task cancelled before its first step never reaches its `finally`, yet must not count
        return sum(part.inflight for part in self._partitions.values())

    # ---- assignment ------------------------------------------------------------------------------------------------

    async def assigned(self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int) -> int:
        """Take over a partition under a new epoch; return the offset to read from."""
        await self.revoked(topic, partition)
        taken = await self._retry(lambda: self._store.assign(topic, partition, cluster_id, earliest, latest))
        position = earliest if taken.next_offset is None else taken.next_offset
        part = Partition(topic, partition, taken.epoch, position, latest, ticked_s=self._clock())
        self._partitions[topic, partition] = part
        self._spawn(part, self._committer.serve(part))
        self._outbox.sweep_soon()
        log.info(
            "partition assigned", extra={"partition": partition, "epoch": taken.epoch, "offset": position}
        )
        return position

    async def revoked(self, topic: str, partition: int) -> None:
        """Drop all state of a partition; what was not committed is read again by whoever has it next."""
        part = self._partitions.pop((topic, partition), None)
        if part is None:
            return
        for task in part.tasks:
            task.cancel()
        await asyncio.gather(*part.tasks, return_exceptions=True)
        await self._tell_room()

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset expected from an assigned partition."""
        part = self._partitions.get((topic, partition))
        return part.position if part else None

    def at_end(self, topic: str, partition: int, highwater: int) -> None:
        """Tell the offset after the partition's last record, as the broker gave it just now."""
        if part := self._partitions.get((topic, partition)):
            # a log only grows: less is told while the end is not known, and believed once it has been reached
            part.highwater = highwater if highwater <= part.position else max(part.highwater, highwater)

    # ---- the main path ---------------------------------------------------------------------------------------------

    async def handle(self, record: Record) -> None:
        """Take one record; returns when there is room for the next one."""
        part = self._partitions.get((record.topic, record.partition))
        if part is None or record.offset < part.position or self._draining:
            return  # of an earlier assignment, or delivered again
        limits = self._limits
        part.blocked = True
        part.behind_s = self._wall_clock() - record.timestamp_ms / 1000
        self._monitor.duration("eureka.record.age", max(0.0, part.behind_s))
        try:
            await self._wait_for_room(part)
            try:
                message = parse(record, limits.max_chunk_bytes)
                session = await self._session(part, message)
                if not self._owns(part):
                    return  # revoked meanwhile
                session.accept(message, self._clock(), record.timestamp_ms / 1000, part.clear_s)
                part.heard(session)
                await self._settle(part, session)
                if session.wants_commit:
                    part.wake.set()
            except Reject as reject:
                part.refused.append(
                    dead_letter(record, reject, max_payload_bytes=limits.session.dead_letter_bytes)
                )
                part.wake.set()
        finally:
            part.blocked = False
        if not self._owns(part):
            return
        part.position = record.offset + 1
        part.taken += 1
        self._moves += 1
        if part.taken >= limits.max_uncommitted_records:
            part.wake.set()

    async def tick(self) -> None:
        """Let time pass: give up on missing chunks, flush idle sessions, send what was left unsent."""
        now_s = self._clock()
        for part in list(self._partitions.values()):
            part.clear = part.position >= part.end_before and not part.blocked
            part.end_before = part.highwater
            if part.clear:  # all that was written in the last interval, however long it was, has been read
                part.clear_s += part.interval_s
            part.interval_s, part.ticked_s = now_s - part.ticked_s, now_s
            for session in part.waiting():
                if part.clear:
                    session.tick(now_s, part.clear_s)
                await self._settle(part, session, wait=False)
                part.touch(session)
            if self._owns(part):
                for session in part.idle(now_s, self._limits.idle_flush_s):
                    if not self._has_room(part):
                        break  # the next tick goes on
                    self._analyse(part, session, session.flush_idle())
        await self._bound_memory()
        self._outbox.sweep_if_due(now_s, self._report)

    async def drain(self, grace_s: float) -> bool:
        """Stop taking records; commit and publish what is already with the engine, for at most `grace_s`.

        Returns whether all of it was. What was not is read again by whoever has the partition next.
        """
        self._draining = True
        finished = False
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                async with self._room:
                    await self._room.wait_for(lambda: not self._inflight)
                for part in list(self._partitions.values()):
                    while part.wake.is_set() or not part.quiet.is_set():
                        await part.quiet.wait()
                        await asyncio.sleep(0)
                finished = True
        for topic, partition in list(self._partitions):
            await self.revoked(topic, partition)
        await self._outbox.close()
        return finished

    def pulse(self) -> Pulse:
        """What waits here and whether anything moves, for the watchdog."""
        work = [f"{self._inflight} windows at the engine"] if self._inflight else []
        for part in self._partitions.values():
            if part.blocked:
                work.append(f"a record of {part.topic}-{part.number} waits for room")
            if part.wake.is_set() or not part.quiet.is_set():
                work.append(f"a commit of {part.topic}-{part.number} is under way")
        if self._outbox.sweeping:
            work.append("a sweep is under way")
        return Pulse((self._moves, self._retry.replies, self._outbox.refusals), tuple(work))

    @property
    def store_answered_s(self) -> float:
        """When the store last did what it was asked, on the pipeline's clock."""
        return self._retry.answered_s

    # ---- records to sessions -----------------------------------------------------------------------------------------

    async def _session(self, part: Partition, message: Chunk | SessionEnd) -> Session:
        """The session of a message, from memory or from the store. Raises Reject(wrong_partition)."""
        key = message.key
        home = await self._home(part, message)
        if home not in (None, part.number):
            raise Reject("wrong_partition", f"the stream lives on partition {home}")
        if key not in part.sessions:
            await self._make_room(part)
            known = await self._retry(lambda: self._store.load_session(key))
            place = (part.topic, part.number)
            part.sessions[key] = Session(key, self._limits.session, *(known or ()), place=place)
        session = part.sessions[key]
        session.bound = session.bound or home is not None
        return session

    async def _home(self, part: Partition, message: Chunk | SessionEnd) -> int | None:
        """The partition that the stream is bound to, by the first chunk of it that can be heard; None until then."""
        stream = (message.key.tenant_id, message.key.stream_id)
        home = part.streams.get(stream)
        if home is None:
            home = await self._retry(lambda: self._store.stream_home(*stream, part.topic, part.number))
        if home is None and isinstance(message, Chunk) and audible(message, self._limits.session.audio):
            home = await self._retry(lambda: self._store.bind_stream(*stream, part.topic, part.number))
        if home is not None:
            if len(part.streams) >= REMEMBERED_STREAMS:
                part.streams.clear()
            part.streams[stream] = home
        return home

    async def _settle(self, part: Partition, session: Session, *, wait: bool = True) -> None:
        """Settle what has its turn, one message at a time: the loop breathes between them, and the engine has room."""
        while session.due and self._owns(part):
            self._moves += 1
            self._analyse(part, session, session.advance())
            if session.due:
                await asyncio.sleep(0)
                if not wait and not self._has_room(part):
                    return  # the next tick goes on
                await self._wait_for_room(part)

    async def _make_room(self, part: Partition) -> None:
        """Wait until one more session may be open; those that have been quiet the longest are flushed for it.

        Several at a time: each has to be committed before it is gone, and they share the commit.
        """
        most = self._limits.max_sessions
        while self._owns(part) and self._open_sessions() >= most:
            for number, (quiet_part, quiet) in enumerate(self._quietest(max(1, most // FLUSHED_SHARE))):
                if number and not self._has_room(quiet_part):
                    break
                await self._flush(quiet_part, quiet, wait=True)
            async with self._room:
                await self._room.wait_for(lambda: not self._owns(part) or self._open_sessions() < most)

    async def _bound_memory(self) -> None:
        """Flush sessions, the quietest first, until all of them together hold no more than they may."""
        if self._held_bytes() <= self._limits.max_held_bytes:
            return
        for part, session in self._quietest(self._open_sessions()):
            if not self._has_room(part):
                continue  # its audio would only move to windows; the next tick goes on
            await self._flush(part, session, wait=False)
            if self._held_bytes() <= self._limits.max_held_bytes:
                return

    async def _flush(self, part: Partition, session: Session, *, wait: bool) -> None:
        """Settle all of a session, as when it is idle. What was given up and where it was cut is stored with it."""
        session.hurry()
        await self._settle(part, session, wait=wait)
        if self._owns(part) and not session.due:
            self._analyse(part, session, session.flush_idle())
            part.wake.set()

    def _quietest(self, most: int) -> list[tuple[Partition, Session]]:
        """At most so many sessions that can be flushed, the one without a message for the longest time first."""
        quiet = (
            [(part, s) for s in islice((s for s in part.quietest() if not s.awaits_seen), most)]
            for part in self._partitions.values()
        )
        return list(islice(heapq.merge(*quiet, key=lambda entry: entry[1].last_arrival_s), most))

    def _held_bytes(self) -> int:
        return sum(part.held_bytes for part in self._partitions.values())

    def _open_sessions(self) -> int:
        """Sessions that count: those that cannot be flushed yet are few and short-lived, and nobody waits for them."""
        parts = self._partitions.values()
        return sum(len(part.sessions) - sum(s.awaits_seen for s in part.waiting()) for part in parts)

    def _owns(self, part: Partition) -> bool:
        return self._partitions.get((part.topic, part.number)) is part

    def _has_room(self, part: Partition) -> bool:
        limits = self._limits
        return (
            self._inflight < limits.max_inflight_windows
            and not part.stalled
            and part.taken < limits.max_uncommitted_records
        )

    async def _wait_for_room(self, part: Partition) -> None:
        """Backpressure: a busy engine, a store that is away or far behind stop consumption, and Kafka
        keeps the rest.
        """
        async with self._room:
            await self._room.wait_for(lambda: not self._owns(part) or self._has_room(part))

    # ---- windows to results ------------------------------------------------------------------------------------------

    def _analyse(self, part: Partition, session: Session, steps: Iterable[Step]) -> None:
        """Have the new steps of a session analysed, as far as they have a window."""
        for step in steps:
            window = step.cut.window
            if window is None:
                continue
            if self._sheds(part, window):
                self._monitor.count("eureka.windows.shed", track=str(window.track))
                step.finish(shed(window, f"read {part.behind_s:.0f} s after it had come"))
                continue
            part.inflight += 1
            self._spawn(part, self._analysing(part, session, step, window))
        part.touch(session)

    def _sheds(self, part: Partition, window: Window) -> bool:
        """Whether a window is left out, so that transcripts catch up: scenes of a backlog that is too old."""
        after_s = self._limits.shed_scenes_after_s
        late = after_s is not None and part.behind_s > after_s
        return late and window.track == Track.SCENE and not self._is_live(part)

    def _is_live(self, part: Partition) -> bool:
        return part.highwater - part.position <= self._limits.live_lag_records

    async def _analysing(self, part: Partition, session: Session, step: Step, window: Window) -> None:
        started_s = self._clock()
        limits = self._limits
        speech = window.track == Track.SPEECH
        try:
            analysis = await self._engine.analyse(
                window,
                TASKS[window.track],
                deadline_s=started_s + (limits.speech_deadline_s if speech else limits.scene_deadline_s),
                interactive=self._is_live(part),
            )
            step.finish(rows(window, analysis))
        except Poison as poison:
            step.finish(poisoned(window, str(poison)))
        finally:
            self._moves += 1
            part.inflight -= 1
            await self._tell_room()
        self._monitor.duration("eureka.window.analysis", self._clock() - started_s, track=str(window.track))
        part.touch(session)

    # ---- waiting and failing -----------------------------------------------------------------------------------------

    async def _tell_room(self) -> None:
        async with self._room:
            self._room.notify_all()

    def _spawn(self, part: Partition, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        part.tasks.add(task)
        task.add_done_callback(lambda done: self._finished(part, done))

    def _finished(self, part: Partition, task: asyncio.Task[None]) -> None:
        part.tasks.discard(task)
        fenced = not task.cancelled() and isinstance(task.exception(), Fenced)
        if fenced and self._partitions.get((part.topic, part.number)) is not part:
            return  # somebody else has it, as the rebalance said
        self._report(task)

    def _report(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)
