"""The checker: is all that producers wrote accounted for, once, and the same everywhere?

In: the `Outcome` of a run. Out: findings, none where all is well. It shares no code with pipeline, ledger, order and
store; it compares with `expect`, and reads the history from the outside. Invariant: each promise has a kind of finding
of its own, and a test that a broken build brings it about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from storage.sink import GapRow
from streams.messages import Caption, DeadLetter, Event, SessionKey, Transcript
from tests.sim.cluster import Outcome
from tests.sim.expect import Expected, as_heard, expected, letter, runs, scenes
from tests.sim.limits import CUTTER, TOPIC, flushes
from tests.sim.ports import TOPICS, digest
from tests.sim.producers import Spoken


@dataclass(frozen=True)
class Finding:
    """One broken promise; `kind` names the promise."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


def check(outcome: Outcome) -> list[Finding]:
    """All findings of a run."""
    letters = {letter(r.message) for r in outcome.database.rows.values() if isinstance(r.message, DeadLetter)}
    outcome = replace(outcome, written=as_heard(outcome.written, outcome.limits, letters, outcome.stops))
    should = expected(outcome.written, outcome.deadly)
    found = [Finding("defect", text) for text in outcome.defects]
    if outcome.stuck:
        found.append(Finding("stuck", f"offsets {outcome.database.offsets}, {_unsent(outcome)} rows unsent"))
    for part in (
        _rows(outcome, should),
        _coverage(outcome),
        _records(outcome),
        _letters(outcome, should),
        _gaps(outcome, should),
        _published(outcome),
        _progress(outcome),
        _sessions(outcome),
        _limits(outcome),
    ):
        found += part
    return found


def _unsent(outcome: Outcome) -> int:
    return len(outcome.database.unpublished)


def _rows(outcome: Outcome, should: Expected) -> Iterator[Finding]:
    """Rows are those of the same audio cut without a fault: none missing, none more, all equal."""
    stored = {i: r.message for i, r in outcome.database.rows.items() if not isinstance(r.message, DeadLetter)}
    for ce_id in sorted(should.rows.keys() - stored.keys() - should.open_dialog):
        yield Finding("row missing", ce_id)
    for ce_id in sorted(stored.keys() - should.rows.keys()):
        yield Finding("row invented", ce_id)
    for ce_id in sorted(stored.keys() & should.rows.keys()):
        if stored[ce_id] != should.rows[ce_id]:
            yield Finding("row different", f"{ce_id}: {stored[ce_id]!r} is not {should.rows[ce_id]!r}")


def _coverage(outcome: Outcome) -> Iterator[Finding]:
    """From the rows and the input alone: every heard sample lies in one scene, no sample in two, texts fit samples."""
    messages = [row.message for row in outcome.database.rows.values()]
    for session in outcome.written.sessions:
        mine = [m for m in messages if _session_of(m) == _key(session)]
        for channel in range(len(session.audio)):
            here = [m for m in mine if getattr(m, "channel", None) == channel]
            speech = [m for m in here if isinstance(m, Transcript) or _is_window(m, "speech")]
            scene = [m for m in here if isinstance(m, Caption) or _is_window(m, "scene")]
            for kind, claims in (("speech", speech), ("scene", scene)):
                count = _count(session, claims)
                if (count > 1).any():
                    yield Finding("overlap", f"{session.key} channel {channel} {kind}")
                if (count[~_heard(session)] > 0).any():
                    yield Finding("row of no audio", f"{session.key} channel {channel} {kind}")
            if not session.foreign:
                yield from _holes(session, channel, _count(session, scene))
        for m in mine:
            if isinstance(m, Transcript | Caption) and not m.text.endswith(_digest_of(session, m)):
                yield Finding("wrong audio", m.ce_id)


def _holes(session: Spoken, channel: int, count: Any) -> Iterator[Finding]:
    """Heard stretches without a scene: only ends of runs that are too short to be asked about."""
    for start, end in scenes(session, channel):
        if end - start >= CUTTER.scene_min_samples and not count[start:end].all():
            yield Finding("audio without an outcome", f"{session.key} channel {channel} in [{start}, {end})")


def _count(session: Spoken, claims: list[Any]) -> Any:
    """How many of these messages claim each sample, int [n]."""
    count = np.zeros(session.total, np.int8)
    for message in claims:
        count[message.start_sample : message.end_sample] += 1
    return count


def _heard(session: Spoken) -> Any:
    """Which samples the log holds and nobody refused, bool [n]."""
    heard = np.zeros(session.total, bool)
    for start, end in () if session.foreign else runs(session):
        heard[start:end] = True
    return heard


def _records(outcome: Outcome) -> Iterator[Finding]:
    """Every record has the one outcome that its producer gave it reason for."""
    fates: dict[tuple[int, int], list[str]] = {}
    for row in outcome.database.rows.values():
        if isinstance(row.message, DeadLetter) and row.message.track is None:
            fates.setdefault((row.message.partition, row.message.offset), []).append(row.message.reason)
    for _, partition, offset in outcome.database.duplicates:
        fates.setdefault((partition, offset), []).append("duplicate")
    for log in outcome.written.logs:
        for one in log:
            place = (one.record.partition, one.record.offset)
            should = [] if one.fate in ("placed", "end") else [one.fate]
            if (was := fates.pop(place, [])) != should:
                yield Finding("record", f"{place} is {was or 'placed'}, should be {should or 'placed'}")
    for place, was in fates.items():
        yield Finding("record", f"{place} is {was} and was never written")


def _letters(outcome: Outcome, should: Expected) -> Iterator[Finding]:
    """Dead letters are the expected set of places and reasons; so are duplicates."""
    messages = [row.message for row in outcome.database.rows.values()]
    letters = [letter(m) for m in messages if isinstance(m, DeadLetter)]
    for one in sorted(set(letters) ^ should.letters, key=repr):
        yield Finding("dead letter", f"{one} is {'missing' if one in should.letters else 'invented'}")
    duplicates = {(partition, offset) for _, partition, offset in outcome.database.duplicates}
    for place in sorted(duplicates ^ should.duplicates):
        yield Finding("duplicate", f"{place} is {'missing' if place in should.duplicates else 'invented'}")


def _gaps(outcome: Outcome, should: Expected) -> Iterator[Finding]:
    stored = {should.same_gap.get(gap, gap) for gap in outcome.database.gaps}
    if flushes(outcome.limits):  # written down in another way
        yield from _parted_gaps(outcome, stored, should.gaps)
        return
    for gap in sorted(stored ^ should.gaps, key=repr):
        yield Finding("gap", f"{gap} is {'missing' if gap in should.gaps else 'invented'}")


def _parted_gaps(outcome: Outcome, stored: set[GapRow], wanted: set[GapRow]) -> Iterator[Finding]:
    """The audio that nobody heard, chunk by chunk, and the numbers that were given up; neighbours may share a row.

    A flushed session's refused chunk may be forgotten in a crash, and its number then counts as given up.
    """
    sizes = {session.key: session.size for session in outcome.written.sessions}
    unheard = {(session.key, number) for session in outcome.written.sessions for number in session.unheard}

    def audio(gaps: Iterable[GapRow]) -> set[tuple[SessionKey, int]]:
        return {(g.key, at) for g in gaps for at in range(g.start_sample, g.end_sample, sizes[g.key])}

    def numbers(gaps: Iterable[GapRow]) -> set[tuple[SessionKey, int]]:
        known = [(g.key, g.first_sequence, g.last_sequence) for g in gaps]
        return {(k, n) for k, a, b in known if a is not None and b is not None for n in range(a, b + 1)}

    for key, at in sorted(audio(stored) ^ audio(wanted), key=repr):
        yield Finding("gap", f"of {key} at {at} is {'missing' if (key, at) in audio(wanted) else 'invented'}")
    first = {(key, 0) for key in sizes}  # nothing was heard before it, so nothing was stored
    for key, number in sorted(numbers(wanted) - numbers(stored) - first, key=repr):
        yield Finding("gap", f"of {key}: {number} is missing")
    for key, number in sorted(numbers(stored) - unheard, key=repr):
        yield Finding("gap", f"of {key}: {number} is invented")


def _published(outcome: Outcome) -> Iterator[Finding]:
    """Topics have each row at least once, never before it is committed, and always as it is stored."""
    committed = {}
    for moment, entry in enumerate(outcome.history):
        if entry[0] == "commit":
            committed.update(dict.fromkeys(entry[3], moment))
    rows = outcome.database.rows
    for one in outcome.topics:
        if one.ce_id not in rows:
            yield Finding("published without a row", one.ce_id)
            continue
        out = rows[one.ce_id].message.outgoing(TOPICS)
        if (one.topic, one.key, one.value, one.headers) != (
            out.topic,
            out.key,
            out.value,
            tuple(out.headers),
        ):
            yield Finding("published differently", one.ce_id)
        if one.moment <= committed.get(one.ce_id, len(outcome.history)):
            yield Finding("published before the commit", one.ce_id)
    sent = {one.ce_id for one in outcome.topics}
    for ce_id, row in rows.items():
        if ce_id not in sent:
            yield Finding("never published", f"{ce_id}{', marked as published' if row.published else ''}")
        elif not row.published:
            yield Finding("unpublished", ce_id)


def _progress(outcome: Outcome) -> Iterator[Finding]:
    """Only the owner's commits count, nothing goes back, and all is read in the end."""
    epochs: dict[int, int] = {}
    offsets: dict[int, int] = {}
    samples: dict[Any, int] = {}
    for entry in outcome.history:
        if entry[0] == "assign":
            epochs[entry[1]] = entry[2]
        elif entry[0] == "commit":
            commit = entry[1]
            if commit.epoch != epochs.get(commit.partition):
                yield Finding("stale epoch accepted", f"{commit.partition}: {commit.epoch}, owner {entry[2]}")
            if commit.next_offset < offsets.get(commit.partition, 0):
                yield Finding("offset went back", f"{commit.partition}: {commit.next_offset}")
            offsets[commit.partition] = commit.next_offset
            for p in commit.positions:
                if p.sample < samples.get((p.key, p.channel, p.track), 0):
                    yield Finding("position went back", f"{p}")
                samples[p.key, p.channel, p.track] = p.sample
    for partition, log in enumerate(outcome.written.logs):
        at = outcome.database.offsets.get((TOPIC, partition), 0)
        if at != len(log):
            yield Finding("offset", f"partition {partition} ends at {at}, its log at {len(log)}")


def _sessions(outcome: Outcome) -> Iterator[Finding]:
    """Every session that ended is closed, and every track of every session stands at the end of its audio."""
    database = outcome.database
    for session in outcome.written.sessions:
        state = database.sessions.get(session.key)
        if session.foreign:
            if state is not None:
                yield Finding("session", f"{session.key} of another partition has a state")
            continue
        if state is None or state.ended != session.ended:
            yield Finding(
                "session", f"{session.key} should be {'ended' if session.ended else 'open'}: {state}"
            )
            continue
        for channel in range(len(session.audio)):
            for track in ("speech", "scene"):
                position = database.positions.get((session.key, channel, track))
                if position is None or position.sample != session.total:
                    yield Finding("position", f"{session.key} {channel} {track}: {position}")


def _limits(outcome: Outcome) -> Iterator[Finding]:
    """No worker ever holds more than it may."""
    for entry in outcome.history:
        if entry[0] == "exceeds":
            yield Finding("limit", f"{entry[1]}: {entry[2]}, at most {entry[3]}")


def _key(session: Spoken) -> tuple[str, str, str]:
    return (session.key.tenant_id, session.key.stream_id, session.key.session_id)


def _session_of(message: Any) -> tuple[str, str, str]:
    return (message.tenant_id, message.stream_id, message.session_id)


def _is_window(message: Any, track: str) -> bool:
    """Whether this is the dead letter of a window."""
    return isinstance(message, DeadLetter) and message.track == track


def _digest_of(session: Spoken, message: Transcript | Caption | Event) -> str:
    assert message.channel is not None
    return digest(session.audio[message.channel, message.start_sample : message.end_sample])
