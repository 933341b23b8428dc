"""What has to be there in the end, from what the producers wrote alone.

In: `Input`. Out: rows, dead letters, gaps and positions. Which audio was heard, the grid of the scenes, who spoke with
which samples, and the fates of records are worked out here; where speech begins and ends is asked of a
`SpeechTrack` that gets each run in one piece; how a row looks, of the pure functions that build messages.
It knows no order of delivery, no crash and no commit.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from storage.sink import GapRow
from streams.messages import DeadLetter, Message, Origin, SessionKey
from streams.tracks import Audio, Boundary, Piece, SpeechTrack, Track
from streams.windows import Window
from tests.sim.limits import CUTTER, LIMITS, TOPIC, flushes
from tests.sim.ports import POISON, answer, deadly, digest
from tests.sim.producers import Input, Spoken, Written
from tests.sim.watch import Place, Stops
from workers.dialog import Talk, settle
from workers.pipeline import PipelineLimits
from workers.results import TASKS, dialog_event, poisoned, rows

Letter = tuple[int, int, int | None, str | None, int | None, str]  # place, window, reason
IN_TURN = ("placed", "codec", "truncated")  # what becomes of a chunk that has its turn


@dataclass
class Expected:
    """All of one input."""

    rows: dict[str, Message] = field(default_factory=dict)
    open_dialog: set[str] = field(default_factory=set)  # rows that may be missing while their session is open
    letters: set[Letter] = field(default_factory=set)
    duplicates: set[tuple[int, int]] = field(default_factory=set)
    gaps: set[GapRow] = field(default_factory=set)
    same_gap: dict[GapRow, GapRow] = field(default_factory=dict)  # another way to write down an expected one


def expected(written: Input, deadly_windows: bool) -> Expected:
    """Every row, dead letter, duplicate and gap."""
    found = Expected()
    for log in written.logs:
        for one in log:
            place = (one.record.partition, one.record.offset)
            if one.fate == "duplicate":
                found.duplicates.add(place)
            elif one.fate not in ("placed", "end"):
                found.letters.add((*place, None, None, None, one.fate))
    for session in written.sessions:
        if not session.foreign:
            _add_session(found, session, deadly_windows)
    return found


def as_heard(
    written: Input, limits: PipelineLimits, late: Container[Letter], stops: Mapping[Place, Stops]
) -> Input:
    """The input as workers with little memory hear it.

    A session that is flushed to make room ends its run there (`stops`), and waits for nothing: a chunk that came after
    a later one may be `late`, as it is then told, and so is each copy of it.
    """
    if not flushes(limits):
        return written
    sessions = {s.key: replace(s, unheard=dict(s.unheard)) for s in written.sessions}
    for session in sessions.values():
        for (key, channel, track), at in stops.items():
            if key == session.key:
                session.ends[channel, track], session.cuts[channel, track] = at.ends, at.cuts
    logs: list[list[Written]] = []
    for log in written.logs:
        furthest: dict[SessionKey, int] = {}
        logs.append([])
        for one in log:
            if one.chunk is not None:
                key, sequence = one.chunk
                overtaken = sequence < furthest.get(key, -1)
                furthest[key] = max(sequence, furthest.get(key, -1))
                told = (one.record.partition, one.record.offset, None, None, None, "late") in late
                again = one.fate == "duplicate" and sequence in sessions[key].unheard
                if again or (one.fate in IN_TURN and overtaken and told):
                    sessions[key].unheard[sequence] = "late"
                    one = replace(one, fate="late")
            logs[-1].append(one)
    return Input(logs, list(sessions.values()), written.bound)


def runs(session: Spoken, channel: int | None = None, track: str = "") -> list[tuple[int, int]]:
    """Stretches [start, end) of a session that were heard without a hole, in samples; for a track: and unflushed."""
    found: list[tuple[int, int]] = []
    for sequence in range(session.chunks):
        if sequence in session.unheard:
            continue
        start, end = sequence * session.size, min((sequence + 1) * session.size, session.total)
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    if channel is None:
        return found
    ends = session.ends.get((channel, track), set())
    return [
        piece
        for start, end in found
        for piece in itertools.pairwise([start, *sorted(at for at in ends if start < at < end), end])
    ]


def scenes(session: Spoken, channel: int) -> Iterator[tuple[int, int]]:
    """Pieces of the scene grid in each run, those included that are too short for a caption."""
    hop = CUTTER.scene_hop_samples
    for start, end in runs(session, channel, Track.SCENE):
        edges = [start, *range((start // hop + 1) * hop, end, hop), end]
        yield from itertools.pairwise(edges)


def letter(message: DeadLetter) -> Letter:
    """What a dead letter is about."""
    return (
        message.partition,
        message.offset,
        message.channel,
        message.track,
        message.start_sample,
        message.reason,
    )


def _add_session(found: Expected, session: Spoken, deadly_windows: bool) -> None:
    talks: list[Talk] = []
    for window in (*_speech(session), *_scene_windows(session)):
        if deadly_windows and deadly(digest(window.audio)):
            (dead,) = poisoned(window, POISON).dead_letters
            found.letters.add(letter(dead))
            continue
        made = rows(window, answer(window, TASKS[window.track]))
        messages: list[Message] = [*made.transcripts, *made.captions, *made.events]
        for message in messages:
            found.rows[message.ce_id] = message
        if window.track is Track.SPEECH:
            talks.append(Talk(window.channel, window.start_sample, window.end_sample))
    findings, _ = settle(
        talks,
        len(session.audio),
        0,
        session.total,
        ended=session.ended,
        config=LIMITS.session.dialog,
    )
    for finding in findings:
        role = session.roles[finding.channel] if session.roles and finding.channel is not None else None
        event = dialog_event(session.key, role, finding, None)
        found.rows[event.ce_id] = event
        if not session.ended:  # a crash after the last commit leaves it to the session's next chunk
            found.open_dialog.add(event.ce_id)
    for gap in _gaps(session):
        found.gaps.add(gap)
        if gap.start_sample == 0 and 0 in session.unheard:
            # of a session that was not heard yet nothing is stored: a crash forgets that its first chunk was refused
            found.same_gap[replace(gap, first_sequence=0, last_sequence=0)] = gap


def _gaps(session: Spoken) -> Iterator[GapRow]:
    for sequence, why in session.unheard.items():
        start = sequence * session.size
        known = sequence if why in ("lost", "late") else None
        yield GapRow(session.key, known, known, start, start + session.size)


def _scene_windows(session: Spoken) -> Iterator[Window]:
    for channel in range(len(session.audio)):
        for start, end in scenes(session, channel):
            if end - start >= CUTTER.scene_min_samples:
                yield _window(session, channel, Track.SCENE, start, end, end)


def _speech(session: Spoken) -> Iterator[Window]:
    for channel in range(len(session.audio)):
        ends = session.ends.get((channel, Track.SPEECH), set())
        for start, end in runs(session):
            at = start
            for stop in (*sorted(sample for sample in ends if start < sample < end), end):
                for piece in _steps(session, channel, at, stop, end):
                    if piece.window is not None:
                        yield _window(session, channel, Track.SPEECH, *piece.window, piece.speech_end)
                at = stop


def _steps(session: Spoken, channel: int, start: int, stop: int, end: int) -> Iterator[Piece]:
    """Steps of the speech track from `start` to `stop`, where it was made to end its run though that goes on to `end`.

    Those first that it had stored while it heard on: a later life, that has them behind it, may be the one that stops.
    """
    cuts = session.cuts.get((channel, Track.SPEECH), set())
    at = Boundary(start, start)
    for piece in SpeechTrack(CUTTER, at).advance(_audio(session, channel, start, end)) if cuts else ():
        if piece.after.sample > stop or piece.after.sample not in cuts:
            break
        at = piece.after
        yield piece
    yield from SpeechTrack(CUTTER, at).close(_audio(session, channel, start, stop))


def _audio(session: Spoken, channel: int, start: int, end: int) -> Audio:
    audio = Audio(start)
    audio.append(session.audio[channel, start:end])
    return audio


def _window(session: Spoken, channel: int, track: Track, start: int, end: int, speech_end: int) -> Window:
    """A window with the samples that the producer sent, and the place of the chunk in which it begins."""
    samples: npt.NDArray[np.int16] = session.audio[channel, start:end]
    return Window(
        key=session.key,
        channel=channel,
        track=track,
        start_sample=start,
        end_sample=end,
        audio=samples,
        origin=Origin(TOPIC, session.partition, session.offsets[start // session.size]),
        traceparents=(),
        role=session.roles[channel] if session.roles else None,
        speech_end_sample=speech_end,
    )
