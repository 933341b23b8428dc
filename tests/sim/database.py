"""The simulated database: the tables of the store with the rules of `storage`, one transaction at a time.

In: the store's calls, each served whole at one moment. Out: their answers, and `history`, in which every accepted and
refused write is noted for the checker. Knows no delays and no faults (`ports` does). Invariant: like PostgreSQL it
keeps what it is told: a row that is there stays as it is, positions and offsets are overwritten; only a stale epoch
and audio that two rows claim are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from storage.sink import Assignment, Commit, DuplicateRow, GapRow, Overlap, SessionState, TrackPosition
from streams.errors import Fenced
from streams.messages import DeadLetter, Message, SessionKey

Place = tuple[str, int]


@dataclass
class Row:
    """A stored message with what the database notes beside it."""

    message: Message
    created_s: float
    published: bool = False
    locked: bool = False


@dataclass
class Database:
    """What survives every worker."""

    now_s: Callable[[], float]
    history: list[tuple[Any, ...]]
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    epochs: dict[Place, int] = field(default_factory=dict)
    offsets: dict[Place, int] = field(default_factory=dict)
    sessions: dict[SessionKey, SessionState] = field(default_factory=dict)
    positions: dict[tuple[SessionKey, int, str], TrackPosition] = field(default_factory=dict)
    gaps: dict[GapRow, None] = field(default_factory=dict)
    duplicates: dict[tuple[str, int, int], DuplicateRow] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)  # by message id, in the order of insertion
    _claimed: dict[tuple[Any, ...], list[tuple[int, int]]] = field(default_factory=dict)

    def assign(self, topic: str, partition: int) -> Assignment:
        """Take over a partition."""
        place = (topic, partition)
        self.epochs[place] = self.epochs.get(place, 0) + 1
        self.history.append(("assign", partition, self.epochs[place], self.offsets.get(place)))
        return Assignment(self.epochs[place], self.offsets.get(place))

    def load_session(self, key: SessionKey) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
        """What was committed of a session."""
        if key not in self.sessions:
            return None
        state = self.sessions[key]
        letters = [r.message for r in self.rows.values() if isinstance(r.message, DeadLetter)]
        fates = [
            (m.offset, m.reason)
            for m in letters
            if (m.tenant_id, m.stream_id, m.session_id) == (key.tenant_id, key.stream_id, key.session_id)
            and (m.topic, m.partition) == (state.topic, state.partition)
            and m.track is None
        ]
        fates += [(d.origin.offset, "duplicate") for d in self.duplicates.values() if d.key == key]
        return (
            replace(state, fates=tuple(sorted(f for f in fates if f[0] >= state.resume_offset))),
            [p for (of, _, _), p in self.positions.items() if of == key],
            [gap for gap in self.gaps if gap.key == key],
        )

    def commit(self, commit: Commit) -> list[Message]:
        """All of a commit or nothing; the messages whose rows are new. Raises Fenced, Overlap."""
        place = (commit.topic, commit.partition)
        self.fence(commit)
        messages: list[Message] = [
            *commit.transcripts,
            *commit.captions,
            *commit.events,
            *commit.dead_letters,
        ]
        first: dict[str, Message] = {}
        for message in messages:
            first.setdefault(message.ce_id, message)
        new = [message for ce_id, message in first.items() if ce_id not in self.rows]
        self._claim(new)
        for message in new:
            self.rows[message.ce_id] = Row(message, self.now_s())
        for gap in commit.gaps:
            self.gaps.setdefault(gap)
        for row in commit.duplicates:
            self.duplicates.setdefault((row.origin.topic, row.origin.partition, row.origin.offset), row)
        for state in commit.sessions:
            self.sessions[state.key] = state
        for position in commit.positions:
            self.positions[position.key, position.channel, position.track] = position
        self.offsets[place] = commit.next_offset
        self.history.append(("commit", commit, self.epochs[place], tuple(m.ce_id for m in new)))
        return new

    def fence(self, commit: Commit) -> None:
        """Refuse a stale epoch. Raises Fenced."""
        if self.epochs[commit.topic, commit.partition] != commit.epoch:
            self.history.append(("fenced", commit.partition, commit.epoch))
            raise Fenced(f"epoch {commit.epoch} no longer owns partition {commit.partition}")

    def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        """Who spoke when."""
        found = [r.message for r in self.rows.values() if type(r.message).__name__ == "Transcript"]
        return sorted(
            (
                (m.channel, m.start_sample, m.end_sample, len(m.text.split()))  # type: ignore[union-attr,misc]
                for m in found
                if m.key == key and m.end_sample > from_sample  # type: ignore[union-attr,operator]
            ),
            key=lambda talk: (talk[1], talk[0]),
        )

    def lock_unsent(self, limit: int, older_than_s: float) -> list[Row]:
        """Rows that no topic has and nobody else is sending."""
        due_s = self.now_s() - older_than_s
        found = [r for r in self.rows.values() if not (r.published or r.locked) and r.created_s <= due_s]
        for row in found[:limit]:
            row.locked = True
        return found[:limit]

    def mark(self, ids: Sequence[str]) -> None:
        """Note that the topics have these."""
        self.history.append(("mark", tuple(ids)))
        for ce_id in ids:
            if ce_id in self.rows:
                self.rows[ce_id].published = True

    @property
    def unpublished(self) -> list[str]:
        """Ids of rows that count as not sent."""
        return [ce_id for ce_id, row in self.rows.items() if not row.published]

    def _claim(self, messages: Sequence[Message]) -> None:
        """The exclusion constraints of transcripts and captions. Raises Overlap."""
        claims: list[tuple[tuple[Any, ...], int, int]] = []
        for m in messages:
            kind = type(m).__name__
            if kind in ("Transcript", "Caption"):
                whose = (kind, m.tenant_id, m.stream_id, m.session_id, m.channel)
                taken = [*self._claimed.get(whose, []), *(c[1:] for c in claims if c[0] == whose)]
                start, end = m.start_sample, m.end_sample
                assert start is not None
                assert end is not None
                if any(start < other_end and other_start < end for other_start, other_end in taken):
                    self.history.append(("overlap", m.ce_id))
                    raise Overlap(f"{m.ce_id} claims audio of another row")
                claims.append((whose, start, end))
        for whose, start, end in claims:
            self._claimed.setdefault(whose, []).append((start, end))
