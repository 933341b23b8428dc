"""What `make soak` says is right: growth fails, noise passes, and its checks find what is wrong (no server here)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.faults import soak_check, soak_load
from tests.faults.checker import Facts
from tests.faults.checker import judge as judge_rows
from tests.faults.expect import Row, expect
from tests.faults.mark import Int16
from tests.faults.script import Script, speech
from tests.faults.soak_judge import RULES, judge
from tests.faults.soak_load import PROBES, Played, Sound, session_of
from workers.limits import cutter_config
from workers.parts import audio_limits
from workers.settings import Settings

SAMPLES = 180
AT_S = [10.0 * number for number in range(SAMPLES)]
SEED = 3


def sampled(name: str, level: np.ndarray) -> dict[str, list[float]]:
    """All figures flat, but this one."""
    return {rule: [8.0] * SAMPLES for rule in RULES} | {name: level.tolist()}


def failed(values: dict[str, list[float]]) -> list[str]:
    return [finding.name for finding in judge(AT_S, values) if not finding.steady]


def test_growth_is_not_steady_and_noise_is() -> None:
    rng, t = np.random.default_rng(SEED), np.arange(SAMPLES)
    for name in ("worker_rss_mb", "engine_rss_mb"):
        noise = 300 + rng.normal(0, 12, SAMPLES)
        warming = noise - 150 * np.exp(-t / 15)
        assert failed(sampled(name, noise)) == failed(sampled(name, warming)) == []
        assert failed(sampled(name, warming + 0.4 * t)) == [name]  # 4 MB every 100 s
        late = noise + np.where(t > 110, 40, 0)  # a step after two thirds is growth, not warm-up
        assert failed(sampled(name, late)) == [name]
    for name in ("worker_fds", "worker_sockets", "worker_threads", "database_connections", "engine_fds"):
        held = 20 + rng.integers(0, 5, SAMPLES)
        assert failed(sampled(name, held)) == []
        assert failed(sampled(name, held + t // 20)) == [name]
    assert failed(sampled("lag_records", rng.integers(0, 300, SAMPLES))) == []
    assert failed(sampled("lag_records", 5 * t)) == ["lag_records"]
    with pytest.raises(ValueError, match="samples"):
        judge(AT_S[:8], sampled("worker_fds", t))


def told(script: Script) -> list[object]:
    """All that a session writes; of Ogg, whose files are numbered at random, the size."""
    return [
        replace(line, value=str(len(line.value or b"")).encode()) if "ogg" in line.content_type else line
        for line in script.lines
    ]


@pytest.fixture(scope="module")
def sound() -> Sound:
    long: Int16 = speech(SEED, 30.0)[0]
    return Sound(long, long[: 16_000 * 10])


def test_sessions_are_made_again_as_they_were_and_hold_all_troubles(
    sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_load, "SECONDS", (15.0, 20.0))
    fates: set[str] = set()
    for number in range(9):
        script = session_of(SEED, 1, number, sound)
        fates |= {line.fate for line in script.lines} | {"damaged" for line in script.lines if line.damaged}
        fates |= {"idle"} if not script.sessions[0].ended else set()
        sequences = {line.sequence for line in script.lines if line.sequence >= 0}
        fates |= {"lost"} if len(sequences) < max(sequences) + 1 else set()
    assert fates == {"chunk", "end", "duplicate", "late", "damaged", "idle", "lost"}
    assert told(script) == told(session_of(SEED, 1, number, sound))
    first, again = (session_of(SEED, 0, number, sound) for number in (1, 1 + PROBES))
    assert first.sessions[0].key != again.sessions[0].key
    assert np.array_equal(first.sessions[0].sound, again.sessions[0].sound)


def test_a_row_that_is_gone_and_a_text_that_changed_are_found(
    sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak_load, "PROBE_S", 12.0)
    settings = Settings(topic_prefix="t.")
    played, found = [], dict[str, Row]()
    for number in (0, PROBES):
        script = session_of(SEED, 0, number, sound)
        written = [(line, offset) for offset, line in enumerate(script.in_order())]
        played.append(Played(0, number, tuple(range(len(written))), 0.0))
        answer = soak_check.answers_from({}, ())
        told = expect(
            script, written, settings.topics.chunks, cutter_config(settings), audio_limits(settings), answer
        )
        found |= {ce_id: (*row[:7], "yes") if row[0] != "event" else row for ce_id, row in told.rows.items()}

    def verdict(rows: dict[str, Row]) -> dict[str, int]:
        facts = Facts(rows=list(rows.items()))
        expected = soak_check.expected_of(played, SEED, sound, settings, facts, ())
        judged = judge_rows(expected, facts, marked=False)
        return {name: getattr(judged, name) for name in ("missing", "uncovered", "overlapping", "different")}

    def compared(rows: dict[str, Row]) -> tuple[int, int]:
        count, differ = soak_check.compare_texts(rows.values(), probes)
        return count, len(differ)

    probes = soak_check.probes_of(played, SEED, sound)
    assert list(probes.values()) == [0, 0]
    texts = {ce_id: row for ce_id, row in found.items() if row[0] != "event"}
    caption = next(ce_id for ce_id, row in texts.items() if row[0] == "caption")
    assert compared(texts) == (len(texts), 0)
    assert compared({**texts, caption: (*texts[caption][:7], "no")}) == (len(texts), 1)
    gone = {ce_id: row for ce_id, row in texts.items() if ce_id != caption}
    assert compared(gone)[1] == 1
    whole, holed = verdict(texts), verdict(gone)
    assert whole["uncovered"] == whole["overlapping"] == whole["different"] == 0
    assert holed["missing"] == whole["missing"] + 1
    assert holed["uncovered"] == 1
    stray = (*texts[caption][:5], *(place + 16 for place in texts[caption][5:7]), "yes")
    assert verdict({**texts, "stray": stray})["different"] == 1
