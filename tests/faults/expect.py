"""What must be in the database and on the topics after a run, worked out from what the producers wrote.

In: the script, its lines with the offsets that Kafka gave them, the cutter's configuration. Out: `Expected`. Every
session is cut in one go, in order and without a restart, and answered by the engine of the tests, unless told how; the
fates of other lines stand in the script. Knows no worker, no database and no Kafka client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streams.audio import AudioLimits, decode
from streams.errors import Reject
from streams.messages import Chunk, DeadLetter, Event, Origin, SessionKey
from streams.resample import position
from streams.windows import Cut, CutterConfig, Gap, SessionCutter, Track, Window
from tests.faults.engine import Telling, answers_to
from tests.faults.mark import KILLS, Int16, read
from tests.faults.script import RATE, Line, Script, Spoken
from workers.dialog import DialogConfig, Talk, settle
from workers.pool import Analysis
from workers.results import TASKS, Rows, dialog_event, poisoned, rows

Row = tuple[Any, ...]  # kind, tenant, stream, session, channel, first sample, end sample, what it says


@dataclass
class Heard:
    """What a channel's audio was, as accepted: int16 [n], the voice that marks it, and which of it came at all."""

    voice: int
    sound: Int16
    accepted: list[tuple[int, int]]


@dataclass
class Expected:
    """See the module docstring; `dead` is (partition, offset, reason, channel, track, start_sample)."""

    topic: str
    rows: dict[str, Row] = field(default_factory=dict)
    dead: set[tuple[Any, ...]] = field(default_factory=set)
    duplicates: set[tuple[int, int]] = field(default_factory=set)
    gaps: set[tuple[Any, ...]] = field(default_factory=set)
    ended: set[SessionKey] = field(default_factory=set)
    poisoned: dict[tuple[Any, ...], list[tuple[Any, ...]]] = field(
        default_factory=dict
    )  # dead letter → its audio
    heard: dict[tuple[Any, ...], Heard] = field(default_factory=dict)  # tenant, stream, session, channel
    ends: dict[int, int] = field(default_factory=dict)  # partition → the offset after its last record


def expect(
    script: Script,
    written: Iterable[tuple[Line, int]],
    topic: str,
    cutter: CutterConfig,
    audio: AudioLimits,
    answered: Callable[[Window], Rows] | None = None,
) -> Expected:
    """Everything that must come of these lines, each with its offset.

    `answered`: what another engine makes of a window.
    """
    expected = Expected(topic)
    chunks: dict[SessionKey, dict[int, tuple[Line, int]]] = {}
    for line, offset in written:
        expected.ends[line.partition] = max(expected.ends.get(line.partition, 0), offset + 1)
        if line.fate == "chunk" and line.session is not None:
            chunks.setdefault(line.session, {})[line.sequence] = (line, offset)
        elif line.fate == "duplicate":
            expected.duplicates.add((line.partition, offset))
        elif line.fate != "end":
            expected.dead.add((line.partition, offset, line.fate, None, None, None))
    for spoken in script.sessions:
        if not spoken.stray:
            _session(expected, spoken, chunks.get(spoken.key, {}), cutter, audio, answered or _answered)
    return expected


def row_of(message: Any) -> Row:
    """A result as the checker compares it."""
    says: tuple[Any, ...] = (
        (message.event_type, message.label, message.value) if isinstance(message, Event) else (message.text,)
    )
    place = (message.tenant_id, message.stream_id, message.session_id, message.channel)
    return (message.kind, *place, message.start_sample, message.end_sample, *says)


def _session(
    expected: Expected,
    spoken: Spoken,
    lines: dict[int, tuple[Line, int]],
    config: CutterConfig,
    limits: AudioLimits,
    answered: Callable[[Window], Rows],
) -> None:
    key = spoken.key
    cutter = SessionCutter(key, config, {}, None)
    cuts: list[Cut | Gap] = []
    sound = np.zeros_like(spoken.sound)
    accepted: list[tuple[int, int]] = []
    previous = -1
    for sequence, (line, offset) in sorted(lines.items()):
        missing = (previous + 1, sequence - 1) if sequence > previous + 1 else None
        previous = sequence
        try:
            pcm = decode(line.content_type, line.value or b"", limits)
            chunk = Chunk(
                key,
                sequence,
                line.start_sample,
                line.content_type,
                line.value or b"",
                None,
                "",
                "",
                None,
                None,
                Origin(expected.topic, line.partition, offset),
            )
            cuts += cutter.add(chunk, pcm, missing)
        except Reject as reject:
            assert line.damaged, "the harness itself wrote a chunk that cannot be placed"
            expected.dead.add((line.partition, offset, reject.reason, None, None, None))
            continue
        end = min(position(line.start_sample + pcm.samples.shape[1], pcm.rate), sound.shape[1])
        if pcm.rate == RATE and pcm.samples.shape[0] == sound.shape[0]:
            sound[:, line.start_sample : end] = pcm.samples[:, : end - line.start_sample]
        accepted.append((position(line.start_sample, pcm.rate), end))
    cuts += cutter.finish()
    for channel, voice in enumerate(spoken.voices):
        place = (key.tenant_id, key.stream_id, key.session_id, channel)
        expected.heard[place] = Heard(voice, sound[channel], accepted)
    found = [answered(cut.window) for cut in cuts if isinstance(cut, Cut) and cut.window]
    if cutter.channels:
        if spoken.ended:
            expected.ended.add(key)
        found.append(_dialog(key, found, cutter.channels, cutter.end_sample, spoken.ended))
    for cut in cuts:
        if isinstance(cut, Gap):
            sequences = (cut.first_sequence, cut.last_sequence)
            expected.gaps.add(
                (key.tenant_id, key.stream_id, key.session_id, *sequences, cut.start_sample, cut.end_sample)
            )
    for part in found:
        for message in (*part.transcripts, *part.captions, *part.events):
            expected.rows[message.ce_id] = row_of(message)
        for letter in part.dead_letters:
            whose = (key.tenant_id, key.stream_id, key.session_id, letter.channel)
            expected.dead.add(_dead(letter))
            expected.poisoned.setdefault(_dead(letter), []).append(
                (*whose, letter.start_sample, letter.end_sample)
            )


def _answered(window: Window) -> Rows:
    found = read(window.audio)
    if found is not None and found.action == KILLS:
        return poisoned(window, "")
    answers = answers_to(window.audio, TASKS[Track(window.track)])
    return rows(window, Analysis(answers, Telling.name, Telling.version))


def _dialog(key: SessionKey, found: list[Rows], channels: int, end: int, ended: bool) -> Rows:
    talks = [
        Talk(t.channel, t.start_sample, t.end_sample)
        for part in found
        for t in part.transcripts
        if t.text.strip()
    ]
    findings, _ = settle(talks, channels, 0, end, ended=ended, config=DialogConfig())
    return Rows(events=tuple(dialog_event(key, None, finding, None) for finding in findings))


def _dead(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.partition,
        letter.offset,
        letter.reason,
        letter.channel,
        letter.track,
        letter.start_sample,
    )
