"""What a worker keeps in memory of one assigned partition, for as long as one epoch lasts.

In: sessions that have changed (`touch`), records heard (`heard`). Out: the few sessions that somebody has to look at:
those touched since the last commit, those in which something waits for its turn, and the quiet ones, quietest first.
Knows no store and no engine; `workers.pipeline` drops it whole at revocation. Invariant: looking for work never costs
more than there is work, however many sessions are open and quiet.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

from streams.messages import DeadLetter, SessionKey
from workers.ledger import ResumeOffsets
from workers.session import Session


@dataclass(eq=False, slots=True)
class Partition:
    """What this process knows of one assigned partition in one epoch."""

    topic: str
    number: int
    epoch: int
    position: int  # next offset expected
    highwater: int = 0
    end_before: int = 1 << 62  # highwater of the last tick; a busy partition's newest is never reached
    blocked: bool = False  # a record is waiting for room or for a dependency
    ticked_s: float = 0.0  # when the last tick was
    interval_s: float = 0.0  # from the tick before it
    clear: bool = False  # at the last tick it had been read up to `end_before`
    clear_s: float = 0.0  # sum of the intervals whose end had been read one tick later
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: list[DeadLetter] = field(default_factory=list)  # of records that belong to no session
    stored_offset: int = -1
    stalled: bool = False  # the store does not answer
    taken: int = 0  # records since the last commit
    inflight: int = 0  # windows at the engine
    behind_s: float = 0.0  # how old the last record was when it was read, by its time stamp
    held_bytes: int = 0  # by all sessions
    needed: ResumeOffsets = field(default_factory=ResumeOffsets)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # the committer has nothing to do
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _open: OrderedDict[SessionKey, Session] = field(
        default_factory=OrderedDict
    )  # as they were heard, last one last
    _waiting: dict[SessionKey, Session] = field(default_factory=dict)
    _touched: dict[SessionKey, Session] = field(default_factory=dict)
    _held: dict[SessionKey, int] = field(default_factory=dict)

    def heard(self, session: Session) -> None:
        """A message of the session has come."""
        self.touch(session)
        if session.key in self._open:
            self._open.move_to_end(session.key)

    def touch(self, session: Session) -> None:
        """The session has changed: whoever looks after sessions finds it."""
        key = session.key
        if self.sessions.get(key) is not session:
            return  # forgotten
        self._touched[key] = session
        if session.ended or (session.idle and not session.waiting):
            self._open.pop(key, None)
        else:
            self._open.setdefault(key, session)
        if session.waiting:
            self._waiting[key] = session
        else:
            self._waiting.pop(key, None)
        held = session.held_bytes
        self.held_bytes += held - self._held.get(key, 0)
        self._held[key] = held
        if session.has_news:
            self.wake.set()

    def forget(self, session: Session) -> None:
        """The store knows all there is to know of it."""
        key = session.key
        del self.sessions[key]
        self.held_bytes -= self._held.pop(key, 0)
        self.needed.note(key, None)
        for kept in (self._open, self._waiting, self._touched):
            kept.pop(key, None)

    def take_touched(self) -> list[Session]:
        """Sessions touched since this was last asked."""
        touched = list(self._touched.values())
        self._touched.clear()
        return touched

    def waiting(self) -> list[Session]:
        """Sessions in which a message waits for its turn, or for another one."""
        return list(self._waiting.values())

    def quietest(self) -> Iterator[Session]:
        """Sessions neither flushed nor ended, the one without a message for the longest time first.

        One in which a message waits again after its flush is among them: it will not go by itself.
        """
        return iter(self._open.values())

    @property
    def flushable(self) -> int:
        """How many of the quietest do not wait for what an earlier life has seen."""
        return len(self._open) - sum(s.awaits_seen for key, s in self._waiting.items() if key in self._open)

    def idle(self, now_s: float, flush_s: float) -> list[Session]:
        """Sessions that have been quiet for `flush_s` while the partition was clear, and in which nothing waits."""
        found: list[Session] = []
        if not self.clear:
            return found
        for session in self.quietest():
            if session.quiet_s(now_s, self.clear_s) < flush_s:
                break
            if not session.waiting:
                found.append(session)
        return found
