"""Store, engine, publisher and log of the simulated world, with faults drawn from one seeded generator.

`MemoryStore` keeps what PostgreSQL would keep, under the same rules (epoch fencing, one transaction, no
overlap); `HashEngine`
answers with a hash of the audio, so that any wrong sample range shows; `Faults` decides when a call fails
or the process dies.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from model.answers import ChoiceAnswer, TextAnswer
from storage.sink import Assignment, Commit, GapRow, SessionState, TrackPosition
from streams.errors import Fenced, Unavailable
from streams.messages import SessionKey
from streams.windows import Window
from workers.pool import Analysis, Poison


class Crash(Exception):
    """The simulated kill -9."""


@dataclass
class Faults:
    """Seeded misfortune: probabilities per call."""

    rng: random.Random
    crash: float = 0.0
    unavailable: float = 0.0
    crashes_left: int = 20

    def strike(self, place: str) -> None:
        """Perhaps fail here. Raises Crash or Unavailable."""
        if self.crashes_left and self.rng.random() < self.crash:
            self.crashes_left -= 1
            raise Crash(place)
        if self.rng.random() < self.unavailable:
            raise Unavailable(place)


@dataclass
class MemoryStore:
    """What survives a crash."""

    faults: Faults
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    sessions: dict[SessionKey, SessionState] = field(default_factory=dict)
    positions: dict[tuple[SessionKey, int, str], TrackPosition] = field(default_factory=dict)
    gaps: dict[tuple[Any, ...], GapRow] = field(default_factory=dict)
    duplicates: dict[tuple[str, int, int], Any] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)  # ce_id → message
    dead: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    unpublished: set[Any] = field(default_factory=set)

    async def assign(
        self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int
    ) -> Assignment:
        await asyncio.sleep(0.001)
        self.epochs[topic, partition] = self.epochs.get((topic, partition), 0) + 1
        return Assignment(self.epochs[topic, partition], self.offsets.get((topic, partition)))

    async def stream_home(self, tenant: str, stream: str, topic: str, partition: int) -> int | None:
        self.faults.strike("home")
        return self.streams.get((tenant, stream))

    async def bind_stream(self, tenant: str, stream: str, topic: str, partition: int) -> int:
        self.faults.strike("bind")
        return self.streams.setdefault((tenant, stream), partition)

    async def load_session(
        self, key: SessionKey
    ) -> tuple[SessionState, list[TrackPosition], list[GapRow]] | None:
        await asyncio.sleep(0.001)
        self.faults.strike("load")
        if key not in self.sessions:
            return None
        state = self.sessions[key]
        fates = [(d.offset, d.reason) for d in self.dead.values() if _key(d) == key and d.track is None]
        fates += [(d.origin.offset, "duplicate") for d in self.duplicates.values() if d.key == key]
        return (
            replace(state, fates=tuple(fate for fate in fates if fate[0] >= state.resume_offset)),
            [p for (k, _, _), p in self.positions.items() if k == key],
            [g for g in self.gaps.values() if g.key == key],
        )

    async def commit(self, commit: Commit) -> list[Any]:
        self.faults.strike("before_commit")
        await asyncio.sleep(self.faults.rng.uniform(0, 0.05))
        if self.epochs[commit.topic, commit.partition] != commit.epoch:
            raise Fenced("stale epoch")
        assert commit.next_offset >= self.offsets.get((commit.topic, commit.partition), 0), "offset went back"
        new: list[Any] = []
        for message in (*commit.transcripts, *commit.captions, *commit.events):
            known = self.rows.get(message.ce_id)
            assert known is None or known == message, f"two different rows for {message.ce_id}"
            if known is None:
                self._refuse_overlap(message)
                self.rows[message.ce_id] = message
                self.unpublished.add(message.ce_id)
                new.append(message)
        for letter in commit.dead_letters:
            if letter.row_key not in self.dead:
                self.dead[letter.row_key] = letter
                self.unpublished.add(letter.ce_id)
                new.append(letter)
        for gap in commit.gaps:
            self.gaps[gap.key, gap.start_sample, gap.first_sequence] = gap
        for row in commit.duplicates:
            self.duplicates[row.origin.topic, row.origin.partition, row.origin.offset] = row
        for state in commit.sessions:
            self.sessions[state.key] = state
        for position in commit.positions:
            before = self.positions.get((position.key, position.channel, position.track))
            assert before is None or before.sample <= position.sample, "a position went back"
            self.positions[position.key, position.channel, position.track] = position
        self.offsets[commit.topic, commit.partition] = commit.next_offset
        self.faults.strike("after_commit")
        return new

    def _refuse_overlap(self, message: Any) -> None:
        kind = type(message).__name__
        if kind == "Event":
            return
        for other in self.rows.values():
            if type(other).__name__ != kind:
                continue
            same = (other.stream_id, other.session_id, other.channel) == (
                message.stream_id,
                message.session_id,
                message.channel,
            )
            apart = other.end_sample <= message.start_sample or message.end_sample <= other.start_sample
            assert not same or apart, f"{message.ce_id} overlaps {other.ce_id}"

    async def mark_published(self, messages: Sequence[Any]) -> None:
        self.faults.strike("before_mark")
        self.unpublished -= {m.ce_id for m in messages}

    @asynccontextmanager
    async def unsent(self, limit: int, older_than_s: float) -> AsyncIterator[list[Any]]:
        known = self.rows | {letter.ce_id: letter for letter in self.dead.values()}
        messages = [known[i] for i in sorted(self.unpublished)[:limit]]
        yield messages
        self.unpublished -= {m.ce_id for m in messages}

    async def talk_intervals(self, key: SessionKey, from_sample: int) -> list[tuple[int, int, int, int]]:
        return [
            (m.channel, m.start_sample, m.end_sample, len(m.text.split()))
            for m in self.rows.values()
            if type(m).__name__ == "Transcript" and _key(m) == key and m.text and m.end_sample > from_sample
        ]


@dataclass
class HashEngine:
    """Text = stream, range and a hash of the samples. Takes its time; windows whose hash ends in `poison` kill it."""

    faults: Faults
    poison: str = "none"
    analysed: int = 0

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        await asyncio.sleep(self.faults.rng.uniform(0.01, 3.0))
        self.analysed += 1
        digest = hashlib.sha256(window.audio.tobytes()).hexdigest()[:12]
        if digest.endswith(self.poison):
            raise Poison("the window killed its process twice")
        text = f"{window.key.stream_id} {window.start_sample} {window.end_sample} {digest}"
        task, question = tasks[0], "sound" if window.track == "scene" else "voice"
        return Analysis(
            answers=(
                TextAnswer(task, text, "en", 0.5, None, None),
                ChoiceAnswer(tasks[1], question, question, "a", {"a": 0.75, "b": 0.25}),
            ),
            model_name="hash",
            model_version="1",
        )


@dataclass
class MemoryPublisher:
    """Topics: every message id with its number of deliveries, all of them identical."""

    faults: Faults
    sent: dict[str, Any] = field(default_factory=dict)
    deliveries: int = 0

    async def publish(self, messages: Sequence[Any]) -> None:
        self.faults.strike("before_publish")
        for message in messages:
            plain = replace_trace(message)
            assert self.sent.setdefault(message.ce_id, plain) == plain, "one id, two messages"
            self.deliveries += 1
        self.faults.strike("after_publish")


@dataclass
class Silent:
    """A monitor that keeps nothing."""

    def count(self, name: str, amount: int = 1, **attributes: str) -> None: ...
    def duration(self, name: str, seconds: float, **attributes: str) -> None: ...


def replace_trace(message: Any) -> Any:
    """The message as a reader of the topic sees it."""
    return message.model_dump()


def _key(message: Any) -> SessionKey:
    return SessionKey(message.tenant_id, message.stream_id, message.session_id)


__all__ = ["Crash", "Faults", "HashEngine", "MemoryPublisher", "MemoryStore", "Silent", "replace"]
