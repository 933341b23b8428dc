"""From finished work to the store: one transaction at a time per partition, then its rows to their topics.

In: sessions that were touched since the last commit. Out: commits (rows, positions and the partition's next offset
together), the dialog track, sessions forgotten once the store knows all of them. Does not know records, audio or the
engine. Invariants: per track, steps are committed in order; the stored offset is never above what any session of the
partition still needs; a commit costs what was touched, however many sessions are quiet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from storage.sink import Commit
from streams.errors import Unavailable
from streams.messages import Event, Message
from streams.windows import Boundary, Track
from workers.dialog import DialogConfig, Talk, settle, share_start
from workers.outbox import Outbox
from workers.partition import Partition
from workers.ports import Monitor, Store
from workers.results import Rows, dialog_event
from workers.retry import Retry
from workers.session import SESSION_CHANNEL, Ready, Session


class Committer:
    """Commits and publishes whatever is ready."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        monitor: Monitor,
        retry: Retry,
        dialog: DialogConfig,
        committed: Callable[[], Awaitable[None]],
    ) -> None:
        """`committed` is awaited after each round: there may be room for more."""
        self._store = store
        self._outbox = outbox
        self._monitor = monitor
        self._retry = retry
        self._config = dialog
        self._committed = committed

    async def serve(self, part: Partition) -> None:
        """Commit one transaction after the other, as long as the partition is ours (until cancelled)."""
        while True:
            part.quiet.set()
            await part.wake.wait()
            part.quiet.clear()
            part.wake.clear()
            part.taken = 0
            touched = part.take_touched()
            if commit := next_commit(part, touched):
                new = await self._commit(part, commit)
                self._count(commit)
                await self._outbox.send(new)
            for session in touched:
                await self._dialog(part, session)
                if session.forgettable:
                    part.forget(session)
            await self._committed()

    async def _commit(self, part: Partition, commit: Commit) -> Sequence[Message]:
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

    async def _dialog(self, part: Partition, session: Session) -> None:
        """Bring the dialog track up to what the speech tracks have committed; close a session that has ended."""
        ending = session.ended and not session.closed and session.audio_settled
        if not (session.dialog_due or ending):
            return
        position = session.dialog_position()
        settled = session.speech_settled_sample()
        settled = position if settled is None else settled  # it never had audio
        talks = await self._retry(
            lambda: self._store.talk_intervals(session.key, share_start(position, self._config))
        )
        findings, reached = settle(
            [Talk(channel, start, end) for channel, start, end, _ in talks],
            session.channels or 0,
            position,
            settled,
            ended=ending,
            config=self._config,
        )
        session.talk_seen_sample = settled
        if not findings and not ending:  # nothing to store; a restart would find the same
            session.boundaries[SESSION_CHANNEL, Track.DIALOG] = Boundary(reached, reached)
        else:
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
        part.touch(session)

    def _count(self, commit: Commit) -> None:
        for kind in ("transcripts", "captions", "events", "dead_letters", "gaps", "duplicates"):
            if found := len(getattr(commit, kind)):
                self._monitor.count(f"eureka.rows.{kind}", found)


def next_commit(part: Partition, touched: Iterable[Session]) -> Commit | None:
    """All that the touched sessions have ready, with the partition's next offset; None when nothing changes."""
    refused, part.refused = part.refused, []
    ready = Ready(rows=[Rows(dead_letters=tuple(refused))] if refused else [])
    states = []
    for session in touched:
        if taken := session.collect():
            ready.rows += taken.rows
            ready.duplicates += taken.duplicates
            state = session.state(part.topic, part.number)
            if session.bound:  # else the session may be another partition's
                ready.positions += taken.positions
                ready.gaps += taken.gaps
                states.append(state)
        part.needed.note(session.key, session.resume_offset)
    offset = part.needed.next_offset(part.position)
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
