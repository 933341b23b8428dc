"""The main path: a record of audio in, rows in Postgres and messages on the topics out, nothing lost and nothing twice.

    record → parse → session (order → decode → windows) → engine → rows → commit → publish → offset

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
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from storage.sink import Commit
from streams.errors import Fenced, Reject, Unavailable
from streams.messages import (
    Chunk,
    Event,
    Message,
    Record,
    SessionEnd,
    dead_letter,
    parse,
)
from streams.windows import Boundary, Track, Window
from workers.dialog import Talk, settle, share_start
from workers.ledger import next_offset
from workers.partition import Partition
from workers.pool import Poison
from workers.ports import Engine, Monitor, Publisher, Store
from workers.results import TASKS, Rows, dialog_event, poisoned, rows
from workers.session import SESSION_CHANNEL, Ready, Session, SessionLimits, Step, audible
from workers.watchdog import Pulse

log = logging.getLogger(__name__)
T = TypeVar("T")
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
    ) -> None:
        self._clock = clock
        self._store = store
        self._engine = engine
        self._publisher = publisher
        self._limits = limits
        self._monitor = monitor
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._room = asyncio.Condition()
        self._swept_s = clock()
        self._sweeping: asyncio.Task[None] | None = None
        self._draining = False
        self._moves = 0  # goes up with whatever gets done
        self.store_answered_s = clock()  # when the store last did what it was asked
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
        self._spawn(part, self._committing(part))
        self._swept_s = float("-inf")  # rows that a predecessor committed but did not send
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
        try:
            await self._wait_for_room(part)
            try:
                message = parse(record, limits.max_chunk_bytes)
                session = await self._session(part, message)
                if not self._owns(part):
                    return  # revoked meanwhile
                session.accept(message, self._clock(), record.timestamp_ms / 1000, part.clear_s)
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
            for session in list(part.sessions.values()):
                if part.clear:
                    session.tick(now_s, part.clear_s)
                await self._settle(part, session, wait=False)
                if not self._owns(part):
                    break
                if self._is_idle(part, session, now_s):
                    self._analyse(part, session, session.flush_idle())
                if session.has_news:
                    part.wake.set()
        await self._bound_memory()
        due = now_s - self._swept_s >= self._limits.sweep_interval_s
        if due and (self._sweeping is None or self._sweeping.done()):
            self._swept_s = now_s
            self._sweeping = asyncio.ensure_future(self._sweep())  # an absent broker must not stop the clock
            self._sweeping.add_done_callback(self._report)

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
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        return finished

    def pulse(self) -> Pulse:
        """What waits here and whether anything moves, for the watchdog."""
        work = [f"{self._inflight} windows at the engine"] if self._inflight else []
        for part in self._partitions.values():
            if part.blocked:
                work.append(f"a record of {part.topic}-{part.number} waits for room")
            if part.wake.is_set() or not part.quiet.is_set():
                work.append(f"a commit of {part.topic}-{part.number} is under way")
        if self._sweeping is not None and not self._sweeping.done():
            work.append("a sweep is under way")
        return Pulse(self._moves, tuple(work))

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

    def _is_idle(self, part: Partition, session: Session, now_s: float) -> bool:
        if session.idle or session.ended or not part.clear or session.waiting:
            return False
        return session.quiet_s(now_s, part.clear_s) >= self._limits.idle_flush_s

    async def _make_room(self, part: Partition) -> None:
        """Wait until one more session may be open; the one that has been quiet the longest is flushed for it."""
        while self._owns(part) and self._open_sessions() >= self._limits.max_sessions:
            for quiet_part, quiet in self._quietest()[:1]:
                await self._flush(quiet_part, quiet, wait=True)
            async with self._room:
                await self._room.wait_for(
                    lambda: not self._owns(part) or self._open_sessions() < self._limits.max_sessions
                )

    async def _bound_memory(self) -> None:
        """Flush sessions, the quietest first, until all of them together hold no more than they may."""
        held = sum(
            session.held_bytes for part in self._partitions.values() for session in part.sessions.values()
        )
        if held <= self._limits.max_held_bytes:
            return
        for part, session in self._quietest():
            held -= session.held_bytes
            await self._flush(part, session, wait=False)
            if held <= self._limits.max_held_bytes:
                return

    async def _flush(self, part: Partition, session: Session, *, wait: bool) -> None:
        """Settle all of a session, as when it is idle. What was given up and where it was cut is stored with it."""
        session.hurry()
        await self._settle(part, session, wait=wait)
        if self._owns(part) and not session.due:
            self._analyse(part, session, session.flush_idle())
            part.wake.set()

    def _quietest(self) -> list[tuple[Partition, Session]]:
        """Sessions that can be flushed, the one without a message for the longest time first."""
        live = [(part, s) for part in self._partitions.values() for s in part.sessions.values()]
        return sorted(
            (e for e in live if not e[1].idle and not e[1].ended), key=lambda e: e[1].last_arrival_s
        )

    def _open_sessions(self) -> int:
        return sum(len(part.sessions) for part in self._partitions.values())

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
        for step in steps:
            if step.cut.window is None:
                part.wake.set()
                continue
            part.inflight += 1
            self._spawn(part, self._analysing(part, step, step.cut.window))

    async def _analysing(self, part: Partition, step: Step, window: Window) -> None:
        started_s = self._clock()
        limits = self._limits
        speech = window.track == "speech"
        try:
            analysis = await self._engine.analyse(
                window,
                TASKS[window.track],
                deadline_s=started_s + (limits.speech_deadline_s if speech else limits.scene_deadline_s),
                interactive=part.highwater - part.position <= limits.live_lag_records,
            )
            step.finish(rows(window, analysis))
        except Poison as poison:
            step.finish(poisoned(window, str(poison)))
        finally:
            self._moves += 1
            part.inflight -= 1
            await self._tell_room()
        self._monitor.duration("eureka.window.analysis", self._clock() - started_s, track=str(window.track))
        part.wake.set()

    # ---- results to the store and the topics -------------------------------------------------------------------------

    async def _committing(self, part: Partition) -> None:
        """Commit and publish whatever is ready, one transaction at a time, as long as the partition is ours."""
        while True:
            part.quiet.set()
            await part.wake.wait()
            part.quiet.clear()
            part.wake.clear()
            part.taken = 0
            if commit := self._next_commit(part):
                await self._publish(commit, await self._store_commit(part, commit))
            for session in list(part.sessions.values()):
                await self._dialog(part, session)
                if session.forgettable:
                    del part.sessions[session.key]
            await self._tell_room()

    async def _store_commit(self, part: Partition, commit: Commit) -> Sequence[Message]:
        """Commit; while the store is away, nothing more of the partition is taken. Returns the rows that are new."""

        async def attempt() -> Sequence[Message]:
            try:
                return await self._store.commit(commit)
            except Unavailable:
                part.stalled = True
                raise

        new = await self._retry(attempt)
        part.stalled = False
        part.stored_offset = commit.next_offset
        return new

    def _next_commit(self, part: Partition) -> Commit | None:
        refused, part.refused = part.refused, []
        ready = Ready(rows=[Rows(dead_letters=tuple(refused))] if refused else [])
        states, offsets = [], []
        for session in part.sessions.values():
            if taken := session.collect():
                ready.rows += taken.rows
                ready.duplicates += taken.duplicates
                state = session.state(part.topic, part.number)
                if session.bound:  # else the session may be another partition's
                    ready.positions += taken.positions
                    ready.gaps += taken.gaps
                    states.append(state)
            if session.resume_offset is not None:
                offsets.append(session.resume_offset)
        offset = next_offset(part.position, offsets)
        if not (ready or states) and offset == part.stored_offset:
            return None
        return Commit(
            topic=part.topic,
            partition=part.number,
            epoch=part.epoch,
            next_offset=offset,
            sessions=tuple(states),
            positions=tuple(ready.positions),
            transcripts=tuple(m for r in ready.rows for m in r.transcripts),
            captions=tuple(m for r in ready.rows for m in r.captions),
            events=tuple(m for r in ready.rows for m in r.events),
            alerts=(),
            dead_letters=tuple(m for r in ready.rows for m in r.dead_letters),
            gaps=tuple(ready.gaps),
            duplicates=tuple(ready.duplicates),
        )

    async def _dialog(self, part: Partition, session: Session) -> None:
        """Bring the dialog track up to what the speech tracks have committed; close a session that has ended."""
        config = self._limits.session.dialog
        settled = session.speech_settled_sample()
        ending = session.ended and not session.closed and session.audio_settled
        position = session.dialog_position()
        if settled is None and ending:  # it never had audio
            settled = position
        if settled is None or (settled <= max(position, session.talk_seen_sample) and not ending):
            return
        talks = await self._retry(
            lambda: self._store.talk_intervals(session.key, share_start(position, config))
        )
        findings, reached = settle(
            [Talk(channel, start, end) for channel, start, end, _ in talks],
            session.channels or 0,
            position,
            settled,
            ended=ending,
            config=config,
        )
        if not findings and not ending:  # nothing to store; a restart would find the same
            session.boundaries[SESSION_CHANNEL, Track.DIALOG] = Boundary(reached, reached)
            session.talk_seen_sample = settled
            return
        roles = session.roles or ()
        events: tuple[Event, ...] = tuple(
            dialog_event(
                session.key,
                roles[f.channel] if f.channel is not None and f.channel < len(roles) else None,
                f,
                session.traceparent,
            )
            for f in findings
        )
        session.closed = ending
        session.add_dialog(Rows(events=events), reached)
        part.wake.set()

    async def _publish(self, commit: Commit, messages: Sequence[Message]) -> None:
        """Send the new rows of a commit; what cannot be sent now stays unsent in the store for the sweep.

        A row that was there already is the store's: it was sent, or the sweep will, as it was first written.
        """
        for kind in ("transcripts", "captions", "events", "dead_letters", "gaps", "duplicates"):
            if found := len(getattr(commit, kind)):
                self._monitor.count(f"eureka.rows.{kind}", found)
        if not messages:
            return
        try:
            await self._publisher.publish(messages)
            await self._store.mark_published(messages)
            self.store_answered_s = self._clock()
        except Unavailable as error:
            self._moves += 1
            log.warning("rows left for the sweep", extra={"rows": len(messages), "reason": str(error)})

    async def _sweep(self) -> None:
        """Send rows that were committed but not marked as sent, by whichever process."""
        try:
            async with self._store.unsent(
                self._limits.sweep_batch, self._limits.sweep_older_than_s
            ) as messages:
                self.store_answered_s = self._clock()  # no move: sweeps go on whatever stands still
                if messages:
                    await self._publisher.publish(messages)
                    self._monitor.count("eureka.rows.swept", len(messages))
            if len(messages) == self._limits.sweep_batch:
                self._swept_s = float("-inf")  # more is waiting
        except Unavailable as error:
            log.warning("sweep put off", extra={"reason": str(error)})

    # ---- waiting and failing -----------------------------------------------------------------------------------------

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the store answers; consumption waits meanwhile, and nothing is dropped."""
        wait_s = self._limits.retry_first_s
        while True:
            try:
                answer = await call()
            except Unavailable as error:
                self._moves += 1  # it is away and says so
                log.warning("waiting for a dependency", extra={"reason": str(error), "wait_s": wait_s})
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._limits.retry_most_s)
            else:
                self._moves += 1
                self.store_answered_s = self._clock()
                return answer

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
