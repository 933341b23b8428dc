"""Zero loss of a soak: each window that the input must give is there once, and the same audio always got the same text.

In: what was played, the rows and messages that are there. Out: the common `Verdict` of the fault tests, and the texts
that differ. What the engine says cannot be told from the input, so its words are taken from the row at the very place
where a row must be; ids, intervals, measured and dialog events, dead letters, gaps and duplicates are worked out anew.
Knows no worker. Invariant: a window without a row is answered with nothing, and so counts as missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from model.answers import ChoiceAnswer, Question, TextAnswer
from streams.messages import SessionKey
from streams.windows import Track, Window
from tests.faults.checker import Facts
from tests.faults.expect import Expected, Row, expect
from tests.faults.soak_load import Played, Sound, probe_of, session_of
from workers.limits import cutter_config
from workers.parts import audio_limits
from workers.pool import Analysis
from workers.results import Rows, rows
from workers.settings import Settings

Said = Mapping[
    tuple[Any, ...], str
]  # kind, tenant, stream, session, channel, start, end, event type → text or label


def expected_of(
    played: Iterable[Played],
    seed: int,
    sound: Sound,
    settings: Settings,
    facts: Facts,
    questions: Sequence[Question],
) -> Expected:
    """What must be there; the engine's words are those of `facts`, the audio itself is not kept."""
    topic = settings.topics.chunks
    answer = answers_from(said(row for _, row in facts.rows), questions)
    total = Expected(topic)
    for one in played:
        script = session_of(seed, one.line, one.number, sound)
        written = list(zip(script.in_order(), one.offsets, strict=True))
        found = expect(script, written, topic, cutter_config(settings), audio_limits(settings), answer)
        for heard in found.heard.values():
            heard.sound = np.zeros(0, np.int16)
        for name in ("rows", "poisoned", "heard"):
            getattr(total, name).update(getattr(found, name))
        for name in ("dead", "duplicates", "gaps", "ended"):
            getattr(total, name).update(getattr(found, name))
        for partition, end in found.ends.items():
            total.ends[partition] = max(total.ends.get(partition, 0), end)
    return total


def said(found: Iterable[Row]) -> Said:
    """By place: the text of a transcript or caption, the label of an event."""
    return {
        (*row[:7], row[7] if row[0] == "event" else None): row[8 if row[0] == "event" else 7] for row in found
    }


def answers_from(told: Said, questions: Sequence[Question]) -> Callable[[Window], Rows]:
    """An engine that says of a window what the rows at its place say."""

    def answered(window: Window) -> Rows:
        key = window.key
        place = (key.tenant_id, key.stream_id, key.session_id, window.channel)
        where = (*place, window.start_sample, window.end_sample)
        track = Track(window.track)
        task = "transcript" if track is Track.SPEECH else "caption"
        text = told.get((task, *where, None), "")
        answers: list[TextAnswer | ChoiceAnswer] = [TextAnswer(task, text, None, None, None, None)]
        for question in questions:
            if question.track == track.value:
                label = told.get(("event", *where, question.event_type), question.choices[0])
                answers.append(
                    ChoiceAnswer(question.name, question.name, question.event_type, label, {label: 1.0})
                )
        return rows(window, Analysis(tuple(answers), "", ""))

    return answered


def compare_texts(found: Iterable[Row], probes: Mapping[SessionKey, int]) -> tuple[int, list[str]]:
    """How many texts and labels of sessions with the same audio were compared, and the places at which they differ."""
    told: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for row in found:
        kind, tenant, stream, session, channel, start, end, *says = row
        probe = probes.get(SessionKey(tenant, stream, session))
        if probe is not None:
            place = (probe, kind, channel, start, end, says[0] if kind == "event" else "")
            told[place].append(tuple(says))
    compared = sum(len(says) for says in told.values() if len(says) > 1)
    times = {place[0]: 0 for place in told}
    for probe in probes.values():
        times[probe] = times.get(probe, 0) + 1
    differ = [
        "probe %d %s channel %s samples %s to %s %s" % place
        for place, says in told.items()
        if len(set(says)) > 1 or len(says) != times[place[0]]
    ]
    return compared, differ


def probes_of(played: Iterable[Played], seed: int, sound: Sound) -> dict[SessionKey, int]:
    """Which of the sessions played again and again a session was."""
    found = {}
    for one in played:
        probe = probe_of(one.line, one.number)
        if probe is not None:
            found[session_of(seed, one.line, one.number, sound).sessions[0].key] = probe
    return found
