"""One session of a stream: from its messages, in whatever order Kafka has them, to work for the engine and
rows for the store.

In: parsed chunks and ends with their offsets, time as `now_s`, results of windows. Out: `Step`s (a stretch
of one track,
perhaps with a window to analyse) and, on `collect`, what is ready to be committed. Pure: no asyncio, no Kafka, no SQL.
Invariants: a track's steps are collected in order; every message ends in exactly one of: placed on the timeline,
duplicate row, dead letter, or settled before a restart; `state` never lets go of a chunk that an unfinished step needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from storage.queries import MOST_PAST_GAPS
from storage.sink import DuplicateRow, GapRow, SessionState, TrackPosition
from streams.audio import AudioLimits, decode
from streams.errors import Reject
from streams.messages import Chunk, SessionEnd, SessionKey
from streams.order import InOrder, Missing, Orderer
from streams.resample import SAMPLE_RATE_HZ, position
from streams.windows import Boundary, Cut, CutterConfig, Gap, SessionCutter, Track, needed_sample
from workers.arrivals import Arrivals, NoTurn, sequence_of
from workers.dialog import DialogConfig
from workers.ledger import NEVER_SETTLED, Past, SessionLedger
from workers.results import Rows, dead_letter

SESSION_CHANNEL = -1  # the dialog track belongs to no channel
MOST_REFUSED = 64  # in a row: so many are read again for what stands before them, and no more


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Everything a session may hold or wait for."""

    audio: AudioLimits
    cutter: CutterConfig
    dialog: DialogConfig
    reorder_wait_s: float
    reorder_max_held: int
    dead_letter_bytes: int
    reorder_max_bytes: int = 16 << 20
    max_sequence_jump: int = 10_000  # what leaps further ahead counts once another chunk follows it there
    max_jump_s: float = 6 * 3600.0  # the same for its place in the session
    jump_wait_s: float = 60.0  # longer than two of the longest chunks


@dataclass(eq=False, slots=True)
class Step:
    """One cut of one track on its way to the store; `rows` is None until its window is analysed."""

    cut: Cut
    rows: Rows | None

    def finish(self, rows: Rows) -> None:
        """Note the window's rows; its audio is not needed any longer."""
        self.rows = rows
        self.cut = replace(self.cut, window=None)


@dataclass(slots=True)
class Ready:
    """What `collect` takes out of a session for the next commit."""

    positions: list[TrackPosition] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)
    duplicates: list[DuplicateRow] = field(default_factory=list)
    released: bool = False  # chunks need not be read again any longer: the stored state must say so

    def __bool__(self) -> bool:
        return bool(self.positions or self.rows or self.gaps or self.duplicates or self.released)


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A chunk far ahead of all audio, whose turn has come: it waits for another one to follow it there."""

    chunk: Chunk
    rate: int
    missing: tuple[int, int] | None
    since_s: float


class Session:
    """State of one live session between its first chunk and the commit of its last row."""

    def __init__(
        self,
        key: SessionKey,
        limits: SessionLimits,
        state: SessionState | None = None,
        positions: list[TrackPosition] | None = None,
        gaps: list[GapRow] | None = None,
        *,
        place: tuple[str, int] | None = None,
    ) -> None:
        """A new session, or one that goes on from what the store has of it.

        `place` is the topic and partition that it is read from now. Where the state is another's, its offsets and what
        it says of them count no more: sequences tell what is known.
        """
        self.key = key
        self.limits = limits
        self.boundaries = {
            (p.channel, Track(p.track)): Boundary(p.sample, p.run_start, p.in_speech) for p in positions or []
        }
        self._past = Past()
        moved = state is not None and place not in (None, (state.topic, state.partition))
        if state and moved:
            self._past = Past(state.resume_sequence, ended=state.ended)
        elif state:
            self._past = Past(
                state.resume_sequence,
                state.resume_offset,
                state.seen_offset,
                state.ended,
                dict(state.fates),
            )
        self.seen_offset = self._past.seen_offset
        self._read_offset = -1  # the last one in this life
        self.roles = state.roles if state else None  # those of the first chunk with audio
        self.rate = state.rate if state else None
        self.channels = state.channels if state else None
        self.source = state.source if state else None
        self.traceparent: str | None = None
        self.ended = self._past.ended  # the end message has taken its turn
        self.closed = self._past.ended  # ended, and everything of it is committed
        # its stream belongs to this partition: what is known of it may be stored
        self.bound = state is not None and not moved
        self.idle = False  # flushed; the next chunk begins a new run
        self.last_arrival_s = 0.0
        self._arrival_clear_s = 0.0
        recorded = [(g.first_sequence, g.last_sequence) for g in gaps or []]
        self.orderer: Orderer[Chunk | SessionEnd] = Orderer(
            next_sequence=self._past.resume_sequence,
            max_wait_s=limits.reorder_wait_s,
            max_held=limits.reorder_max_held,
            gaps=[(first, last) for first, last in recorded if first is not None and last is not None],
            max_held_bytes=limits.reorder_max_bytes,
            max_jump=limits.max_sequence_jump,
            jump_wait_s=limits.jump_wait_s,
            max_past_gaps=MOST_PAST_GAPS,
        )
        self.arrivals = Arrivals(self.orderer, unnamed=key.session_id == "0")
        roles = None if self.rate is None else self.roles or ()
        self.cutter = SessionCutter(key, limits.cutter, self._audio_boundaries(), roles)
        self.ledger = SessionLedger()
        self.steps: dict[tuple[int, Track], deque[Step]] = {}
        self._out = Ready()
        self._unbound_gaps: list[GapRow] = []  # stored once the stream is bound, forgotten with the session
        self._refused = 0  # in a row, in their turn
        self._missing: tuple[int, int] | None = None
        self._ahead: _Ahead | None = None
        self._resume_offset: int | None = None
        self.talk_seen_sample = -1  # up to where the dialog track has looked
        self._anchored = False  # nothing is to be read again, but a restart has to look at the dialog track

    # ---- messages in ---------------------------------------------------------------------------------------------

    def accept(self, message: Chunk | SessionEnd, now_s: float, log_s: float, clear_s: float = 0.0) -> None:
        """Take one message; `advance` then settles what has its turn.

        `now_s` is the clock, `clear_s` the partition's clear time, `log_s` the record's own time stamp. While chunks
        flow, the wait for a missing one is measured between time stamps of this session: reading the same log again, at
        any pace, decides the same.
        """
        if message.sequence is None:  # an end without a sequence comes after all that is known
            message = replace(message, sequence=self.orderer.furthest + 1)
        self.arrivals.stamp(log_s)
        self.last_arrival_s, self._arrival_clear_s = now_s, clear_s
        if not self._past.settled(message.origin.offset, sequence_of(message)):
            self._take(message)
        self._read_offset = max(self._read_offset, message.origin.offset)
        self.seen_offset = max(self.seen_offset, message.origin.offset)
        self._expire(self.arrivals.log_s)

    def tick(self, now_s: float, clear_s: float) -> None:
        """Give up waiting for chunks while nothing more of the partition is to be read: then the clock counts."""
        self._expire(self.arrivals.log_s + self.quiet_s(now_s, clear_s))

    def quiet_s(self, now_s: float, clear_s: float) -> float:
        """Time since the last message in which the partition was clear: nothing more of it was to be read."""
        return min(now_s - self.last_arrival_s, clear_s - self._arrival_clear_s)

    def hurry(self) -> None:
        """Wait for nothing any longer: memory is short."""
        self._without_turn(self.arrivals.hurry())

    @property
    def due(self) -> bool:
        """Whether a message has its turn."""
        return self.orderer.due

    def advance(self) -> list[Step]:
        """Settle one message whose turn has come; return the new steps (those with a window want analysis)."""
        match self.orderer.next_turn():
            case Missing(first, last):
                self._missing = (self._missing[0] if self._missing else first, last)
                return []
            case InOrder(SessionEnd() as end):
                return self._end(end)
            case InOrder(Chunk() as chunk):
                return self._decide(chunk) + self._place(chunk)
            case _:
                return []

    def flush_idle(self) -> list[Step]:
        """Close every open window: nothing has come for a while. A later chunk is simply processed."""
        self.idle = not self.ended  # an end among what was flushed is needed until it is committed
        return self._decide(None) + self._queue(self.cutter.finish())

    @property
    def waiting(self) -> bool:
        """Whether a message has come that is not settled."""
        return self._ahead is not None or bool(self.orderer.held_items())

    @property
    def awaits_seen(self) -> bool:
        """Whether a message waits for one that an earlier life may have placed: it must not be given up in a hurry."""
        return self._read_offset < self._past.seen_offset and bool(self.orderer.held_items())

    @property
    def held_bytes(self) -> int:
        """Memory that chunks and audio take."""
        ahead = len(self._ahead.chunk.payload) if self._ahead else 0
        return self.orderer.held_bytes + ahead + self.cutter.size_bytes

    @property
    def audio_settled(self) -> bool:
        """No step is waiting and no message is held back."""
        return not any(self.steps.values()) and not self.waiting

    # ---- rows out ------------------------------------------------------------------------------------------------

    def collect(self) -> Ready:
        """Take what may be committed now: finished steps from the front of every track, refusals, gaps once bound."""
        ready, self._out = self._out, Ready()
        for (channel, track), steps in self.steps.items():
            while steps and (rows := steps[0].rows) is not None:
                after = steps.popleft().cut.after
                self.boundaries[channel, track] = after
                ready.rows.append(rows)
                ready.positions.append(self._position(channel, track, after))
        ready.positions = list({(p.channel, p.track): p for p in ready.positions}.values())
        gaps = [*self._unbound_gaps, *ready.gaps]
        ready.gaps, self._unbound_gaps = (gaps, []) if self.bound else ([], gaps)
        ready.released = self._release()
        return ready

    def add_dialog(self, rows: Rows, position: int) -> None:
        """Queue dialog events and the dialog position for the next commit."""
        boundary = Boundary(position, position)
        self.boundaries[SESSION_CHANNEL, Track.DIALOG] = boundary
        self._out.positions.append(self._position(SESSION_CHANNEL, Track.DIALOG, boundary))
        self._out.rows.append(rows)

    def state(self, topic: str, partition: int) -> SessionState:
        """What a restart needs to know, as of the steps collected so far."""
        sequence, offset = self._resume()
        self._resume_offset = offset if self._must_reread else None
        return SessionState(
            key=self.key,
            topic=topic,
            partition=partition,
            channels=self.channels,
            rate=self.rate,
            roles=self.roles,
            source=self.source,
            resume_sequence=sequence,
            resume_offset=offset,
            seen_offset=self.seen_offset,
            ended=self.closed,
        )

    @property
    def resume_offset(self) -> int | None:
        """First offset that a restart must re-read, None when there is none. Only `collect` and `state` move it."""
        if self._resume_offset is None and self._must_reread:
            self._resume_offset = self._resume()[1]
        return self._resume_offset

    @property
    def has_news(self) -> bool:
        """Something is to be stored, or the session to be closed."""
        ready = any(steps and steps[0].rows is not None for steps in self.steps.values())
        releasable = self._all_settled and bool(self.ledger.placed)
        looked_at = self._anchored and not self.dialog_due
        return ready or bool(self._out) or releasable or looked_at or (self.ended and not self.closed)

    @property
    def wants_commit(self) -> bool:
        """Something may be committed, or the offset may move on."""
        return self.has_news or not self._must_reread

    @property
    def forgettable(self) -> bool:
        """Everything is committed and nothing needs to be re-read: the store knows all there is to know."""
        settled = self._all_settled and self.audio_settled and not self.ledger.placed
        return settled and not self._out and not self._anchored

    def speech_settled_sample(self) -> int | None:
        """Up to where the speech of every channel is committed; None before the first commits."""
        if not self.channels:
            return None
        found = [self.boundaries.get((channel, Track.SPEECH)) for channel in range(self.channels)]
        return min((b.sample for b in found if b), default=None) if all(found) else None

    @property
    def dialog_due(self) -> bool:
        """Whether speech is committed that the dialog track has not looked at."""
        settled = self.speech_settled_sample()
        seen = max(self.dialog_position(), self.talk_seen_sample)
        return settled is not None and settled > seen and not self.closed

    def dialog_position(self) -> int:
        """Sample up to which dialog events are committed."""
        boundary = self.boundaries.get((SESSION_CHANNEL, Track.DIALOG))
        return boundary.sample if boundary else 0

    # ---- below: one message or cut at a time -----------------------------------------------------------------------

    def _take(self, message: Chunk | SessionEnd) -> None:
        if self.ended and sequence_of(message) >= self.orderer.next_sequence:
            self._refuse(message, Reject("after_end", "the session had ended"))
        else:
            self._without_turn(self.arrivals.take(message))

    def _without_turn(self, without: Iterable[NoTurn]) -> None:
        for message, reject in ((one.message, one.reject) for one in without):
            if reject is None:
                self._out.duplicates.append(DuplicateRow(message.origin, self.key, sequence_of(message)))
            else:
                self._refuse(message, reject)

    def _expire(self, until_s: float) -> None:
        self._without_turn(self.arrivals.expire(until_s))
        ahead = self._ahead
        if ahead and not self.due and until_s >= ahead.since_s + self.limits.jump_wait_s:
            self._decide(None)

    def _decide(self, following: Chunk | None) -> list[Step]:
        """Place the chunk that is far ahead if this one goes on from there, else refuse it."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return []
        self.ledger.take_back()
        missing, self._missing = self._missing, ahead.missing
        steps: list[Step] = []
        start = position(ahead.chunk.start_sample, ahead.rate)
        step = position(following.start_sample, ahead.rate) - start if following else -1
        if 0 <= step <= self._max_jump:
            steps = self._place(ahead.chunk, followed=True)
        else:
            detail = (
                f"starts {(start - self.cutter.end_sample) // SAMPLE_RATE_HZ} s ahead, and no chunk followed"
            )
            self._turn_down(ahead.chunk, Reject("far_ahead", detail))
            steps = self._cut_off() if following else []  # else the run ends anyway
        self._missing = missing
        return steps

    def _place(self, chunk: Chunk, *, followed: bool = False) -> list[Step]:
        """Put a chunk whose turn has come on the timeline, refuse it, or set it aside until another follows it."""
        if chunk.origin.offset in self._past.fates:  # its dead letter stands
            self._pass_over(chunk)
            return self._cut_off()
        try:
            pcm = decode(chunk.content_type, chunk.payload, self.limits.audio)
            self._check_format(pcm.rate, pcm.samples.shape[0])
            start = position(chunk.start_sample, pcm.rate)
            if not followed and start > self.cutter.end_sample + self._max_jump:
                self._ahead = _Ahead(chunk, pcm.rate, self._missing, self.arrivals.log_s)
                self._missing = None
                self.ledger.place(chunk.origin.offset, chunk.sequence, NEVER_SETTLED)
                return []
            cuts = self.cutter.add(chunk, pcm, self._missing)
        except Reject as reject:
            self._turn_down(chunk, reject)
            return self._cut_off()
        self._missing = None
        self._refused = 0
        self.idle = False
        if self.rate is None:
            self.roles = chunk.roles
        self.rate, self.channels = pcm.rate, pcm.samples.shape[0]
        self.source = self.source or chunk.source
        self.traceparent = chunk.traceparent or self.traceparent
        end_sample = position(chunk.start_sample + pcm.samples.shape[1], pcm.rate)
        self.ledger.place(chunk.origin.offset, chunk.sequence, end_sample)
        return self._queue(cuts)

    def _check_format(self, rate: int, channels: int) -> None:
        if self.rate is not None and (rate, channels) != (self.rate, self.channels):
            raise Reject(
                "format_changed", f"{rate} Hz × {channels}, the session has {self.rate} Hz × {self.channels}"
            )

    def _turn_down(self, chunk: Chunk, reject: Reject) -> None:
        """Refuse a chunk in its turn."""
        self._refuse(chunk, reject)
        self._pass_over(chunk)

    def _pass_over(self, chunk: Chunk) -> None:
        self.ledger.place(chunk.origin.offset, chunk.sequence, self.cutter.end_sample)
        self._record_missing()
        self._refused += 1

    def _cut_off(self) -> list[Step]:
        """After many refused chunks, end the run before them: it would have all of them read again."""
        if self._refused <= MOST_REFUSED:
            return []
        self._refused = 0
        if not self.bound:  # nothing was heard or stored: as after a restart, all of it is missing
            self._missing = (0, self.ledger.placed[-1].sequence)
            self._out.gaps, self._unbound_gaps = [], []
            self.ledger.placed.clear()
        return self._queue(self.cutter.finish())

    def _end(self, end: SessionEnd) -> list[Step]:
        steps = self._decide(None)
        self.ended = True
        self.idle = False  # the end is needed until all that follows from it is committed
        self.ledger.place(end.origin.offset, sequence_of(end), NEVER_SETTLED)
        self._record_missing()
        for item in self.orderer.drain():
            self._refuse(item, Reject("after_end", "the session had ended"))
        return steps + self._queue(self.cutter.finish())

    def _record_missing(self) -> None:
        """Store what was given up before a message that places no audio; how much audio it was is not known."""
        if self._missing:
            edge = self.cutter.end_sample
            self._out.gaps.append(GapRow(self.key, *self._missing, edge, edge))
            self._missing = None

    def _queue(self, cuts: Sequence[Cut | Gap]) -> list[Step]:
        new = []
        for cut in cuts:
            if isinstance(cut, Gap):
                row = GapRow(
                    self.key, cut.first_sequence, cut.last_sequence, cut.start_sample, cut.end_sample
                )
                self._out.gaps.append(row)
                continue
            step = Step(cut, rows=None if cut.window else Rows())
            self.steps.setdefault((cut.channel, cut.track), deque()).append(step)
            new.append(step)
        return new

    def _refuse(self, message: Chunk | SessionEnd, reject: Reject) -> None:
        self._out.rows.append(
            Rows(dead_letters=(dead_letter(message, reject, self.limits.dead_letter_bytes),))
        )

    @property
    def _max_jump(self) -> int:
        return round(self.limits.max_jump_s * SAMPLE_RATE_HZ)

    @property
    def _must_reread(self) -> bool:
        return bool(self._anchored or self.ledger.placed or self.orderer.held_items())

    def _resume(self) -> tuple[int, int]:
        held = [message.origin.offset for message in self.orderer.held_items()]
        sequence, offset = self.ledger.resume(self.orderer.next_sequence, self.seen_offset, held)
        if self._anchored:
            offset = min(offset, self.seen_offset)  # known by its sequence; it only brings the session back
        if self._read_offset < self._past.seen_offset:  # what an earlier life saw is still to be read again
            offset = min(offset, max(self._past.resume_offset, self._read_offset + 1))
        # given up, but not recorded yet: read again, it has to be given up again
        unrecorded = [self._missing, self._ahead.missing if self._ahead else None]
        return min([sequence, *(missing[0] for missing in unrecorded if missing)]), offset

    @property
    def _all_settled(self) -> bool:
        """No audio that has come is needed again: the session is closed, or idle with all rows collected."""
        return self.closed or (self.idle and self.audio_settled)

    def _release(self) -> bool:
        """Let go of chunks that a restart need not read; whether there were any."""
        before, anchored = len(self.ledger.placed), self._anchored
        tracks = [(c, t) for c in range(self.channels or 0) for t in (Track.SPEECH, Track.SCENE)]
        if self._all_settled:
            self.ledger.placed.clear()
        else:
            known = [self.boundaries[track] for track in tracks if track in self.boundaries]
            needed = [needed_sample(boundary, self.limits.cutter) for boundary in known]
            self.ledger.release(min(needed, default=0) if len(known) == len(tracks) else 0)
        self._anchored = self.dialog_due and not self.ledger.placed and not self.orderer.held_items()
        return len(self.ledger.placed) < before or (anchored and not self._anchored)

    def _position(self, channel: int, track: Track, boundary: Boundary) -> TrackPosition:
        return TrackPosition(
            self.key, channel, str(track), boundary.sample, boundary.run_start, boundary.in_speech
        )

    def _audio_boundaries(self) -> dict[tuple[int, Track], Boundary]:
        return {k: b for k, b in self.boundaries.items() if k[1] is not Track.DIALOG}


def audible(chunk: Chunk, limits: AudioLimits) -> bool:
    """Whether there is audio in a chunk."""
    try:
        decode(chunk.content_type, chunk.payload, limits)
    except Reject:
        return False
    return True
