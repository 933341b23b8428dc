"""`eureka bench e2e`: one tiny level on real servers, and the arithmetic of the search. No time is asserted."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.streams.sound import voice
from workers import bench_e2e
from workers.bench_load import lay_tape, plan_of, plays_of, schedule
from workers.recordings import RATE_HZ, Recordings, Speech, write_wav

SEARCHES = {
    0: [4, 2, 1],
    1: [4, 2, 1],
    4: [4, 8, 6, 5],
    12: [4, 8, 16, 12, 14, 13],
    100: [4, 8, 16, 32, 64, 128, 96, 112, 104, 100],
}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of the demo's recordings as `workers.recordings.load` reads it, with made voices."""
    speech = []
    for number in range(3):
        path = tmp_path / ("%d.wav" % number)
        write_wav(path, voice(1.5, number))
        speech.append(Speech(str(number), "prompt", str(path), "a text"))
    catalogue = Recordings("synthesised", tuple(speech), ())
    (tmp_path / "catalogue.json").write_text(json.dumps(asdict(catalogue)))
    return tmp_path


def test_two_streams_on_real_servers(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EUREKA_ENGINE_FACTORY", "tests.workers.engines:Hashing")
    monkeypatch.setenv("EUREKA_ENGINE_ARGS", "{}")
    report = bench_e2e.run(streams=2, seconds=5.0, recordings=recordings)
    (level,) = report.levels
    assert (level.missing, level.duplicates, level.unpublished, level.problems) == (0, 0, 0, ())
    assert level.sender.records == 2 * (50 + 1)
    assert level.windows["transcript"] >= 2
    assert level.windows["caption"] == 2
    assert level.settle_s is not None
    assert (
        len(level.backlog.at_s)
        == len(level.backlog.waiting_windows)
        == len(level.backlog.uncommitted_records)
    )
    assert set(level.stages) == {"sender", "broker", "postgres", "worker", "engine", "bench", "machine"}
    assert level.bottleneck in level.stages
    assert report.model == "hashing 1"
    assert json.loads(json.dumps(asdict(report)))["levels"][0]["streams"] == 2


@pytest.mark.parametrize("capacity", SEARCHES)
def test_the_search_doubles_then_halves(capacity: int) -> None:
    sustained: dict[int, bool] = {}
    while (streams := bench_e2e.next_streams(sustained, 4)) is not None:
        sustained[streams] = streams <= capacity
    assert list(sustained) == SEARCHES[capacity]


def test_streams_do_not_speak_in_step_and_come_out_the_same(recordings: Path) -> None:
    known = bench_e2e.obtain(recordings, print)
    tape, again = lay_tape(known, 4.0, 200, seed=3), lay_tape(known, 4.0, 200, seed=3)
    assert tape.codes == again.codes
    assert 2 * len(tape.codes) == len(tape.audio)
    assert 0.35 < tape.speech_share(0, len(tape.audio)) < 0.55
    plan = plan_of(tape, recordings / "tape", "s", 5, 4.0, 200)
    plays = plays_of(plan, tape)
    assert len({play.audio.tobytes() for play in plays}) == 5
    assert {play.seconds for play in plays} == {4.0}
    log = schedule(plan, 100.0)["s-1"]
    assert log.when_s(0) == pytest.approx(100.0 + plan.starts_s[1] + 0.2)
    assert log.when_s(4 * RATE_HZ - 1) == pytest.approx(100.0 + plan.starts_s[1] + 4.0)
    assert [plan.records_due(after_s) for after_s in (0.0, 0.2, 99.0)] == [0, 1, 5 * 21]


def test_slope_of_a_line_of_noise_and_of_too_little() -> None:
    assert bench_e2e._slope([1.0, 2.0, 3.0], [5, 7, 9]) == pytest.approx((2.0, 0.0))
    slope, error = bench_e2e._slope([0.0, 1.0, 2.0, 3.0], [0, 2, 0, 2])
    assert abs(slope) < 3 * error
    assert bench_e2e._slope([1.0, 2.0], [5, 9]) == (0.0, 0.0)
