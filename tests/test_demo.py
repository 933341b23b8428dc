"""The demo: what it plays, how it judges, and one short run of the whole thing on real parts."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import save
from model.evaluate.holdout import is_test
from tests.model import tiny
from tests.streams.sound import voice
from workers import demo_tally as tally
from workers.demo_script import PAUSE_S, Play, Utterance, compose, own
from workers.demo_tally import Received, SentLog, Stored
from workers.recordings import (
    PROMPTS,
    RATE_HZ,
    Missing,
    Recordings,
    Speech,
    load,
    obtain,
    read_audio,
    write_wav,
)

ROOT = Path(__file__).parent.parent
SECOND = RATE_HZ


def tone(seconds: float, amplitude: int = 8000) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (np.sin(2 * np.pi * 300 * time_s) * amplitude).astype(np.int16)


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    """Stand-ins of half a second each under the names that the script asks for."""
    speech = []
    for number, name in enumerate([*PROMPTS, "caller-0", "caller-1", "caller-2"]):
        path = tmp_path / ("%d.wav" % number)
        write_wav(path, tone(0.5))
        speech.append(
            Speech(name, "caller" if name.startswith("caller") else "prompt", str(path), "text of " + name)
        )
    music = tmp_path / "music.wav"
    write_wav(music, tone(30))
    return Recordings("synthesised", tuple(speech), (str(music),))


def play(seconds: float = 10.0, *utterances: Utterance) -> Play:
    audio = np.zeros((1, round(seconds * SECOND)), np.int16)
    return Play("s", Path("s.wav"), "audio/flac", audio, None, utterances)


def transcript(text: str, start_ms: int, end_ms: int, at_s: float = 0.0, ce_id: str = "t1") -> Received:
    fields = {"stream_id": "s", "channel": 0, "start_ms": start_ms, "end_ms": end_ms, "text": text}
    return Received("transcript", ce_id, fields, at_s)


def stored(**changes: object) -> Stored:
    whole = {("s", 0, track): 10 * SECOND for track in tally.TRACKS}
    ids = {kind: [] for kind in tally.TABLES} | {"transcript": ["t1"]}
    perfect = Stored(ids, dict.fromkeys(tally.TABLES, 0), whole, 0, 0, frozenset({"s"}))
    return replace(perfect, **changes)  # type: ignore[arg-type]


def test_only_texts_that_training_never_saw_are_scored() -> None:
    assert [name for name, text in PROMPTS.items() if not is_test(text)] == []


def test_three_streams_hold_every_text_where_they_say(recordings: Recordings, tmp_path: Path) -> None:
    plays = compose(recordings, tmp_path / "plays")
    assert [(p.stream_id, p.content_type, len(p.audio)) for p in plays] == [
        ("call", "audio/PCMU", 2),
        ("broadcast", "audio/flac", 1),
        ("line", "audio/x-raw", 1),
    ]
    for each in plays:
        assert {u.voice for u in each.utterances if u.channel == 0} == {"prompt"}
        for utterance in each.utterances:
            inside = each.audio[utterance.channel, utterance.start_sample : utterance.end_sample]
            before = each.audio[:, utterance.start_sample - round(PAUSE_S * RATE_HZ) : utterance.start_sample]
            assert np.abs(inside).max() > 7000
            assert not before.any()
    assert len(plays[0].utterances) == 10
    call = read_audio(plays[0].path)
    assert abs(len(call) - plays[0].audio.shape[1]) <= 2


def test_own_files_become_streams_and_bad_ones_are_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "mine.wav", np.stack([tone(1), tone(1)]), RATE_HZ)
    (only,) = own([tmp_path / "mine.wav"], tmp_path / "plays")
    assert only.audio.shape == (2, SECOND)  # who speaks on which channel is kept
    (tmp_path / "bad.wav").write_bytes(b"no audio at all")
    with pytest.raises(Missing, match=r"bad\.wav"):
        own([tmp_path / "bad.wav"], tmp_path / "plays")


def test_a_catalogue_with_lost_files_is_no_catalogue(recordings: Recordings, tmp_path: Path) -> None:
    assert load(tmp_path / "nothing") is None
    listing = {
        "origin": "synthesised",
        "speech": [vars(item) | {} for item in recordings.speech],
        "music": list(recordings.music),
    }
    (tmp_path / "catalogue.json").write_text(json.dumps(listing))
    assert load(tmp_path) == recordings
    said: list[str] = []
    assert obtain(tmp_path, said.append) == recordings
    assert "synthesised" in said[0]
    Path(recordings.music[0]).unlink()
    assert load(tmp_path) is None


def test_a_run_without_fault() -> None:
    summary = tally.summarise([play()], {}, [transcript("", 0, 1000)], stored(), {"prompt": 0.25})
    assert summary.fine
    assert (summary.missing, summary.duplicates, summary.unpublished) == (0, 0, 0)
    assert (summary.windows, summary.audio_s, summary.wer, summary.wer_caller) == (1, 10.0, 0.25, None)
    assert summary.rows["transcripts"] == summary.messages["transcripts"] == 1


@pytest.mark.parametrize(
    ("changes", "messages", "figure"),
    [
        ({}, [], "missing"),
        ({"ids": {kind: [] for kind in tally.TABLES}}, [transcript("", 0, 1)], "missing"),
        (
            {"positions": {("s", 0, "speech"): 10 * SECOND, ("s", 0, "scene"): 9 * SECOND}},
            [transcript("", 0, 1)],
            "missing",
        ),
        ({"gaps": 1}, [transcript("", 0, 1)], "missing"),
        ({}, [transcript("", 0, 1), transcript("", 0, 1)], "duplicates"),
        ({"duplicates": 1}, [transcript("", 0, 1)], "duplicates"),
        ({"unpublished": dict.fromkeys(tally.TABLES, 1)}, [transcript("", 0, 1)], "unpublished"),
    ],
)
def test_every_fault_is_seen(changes: dict[str, object], messages: list[Received], figure: str) -> None:
    summary = tally.summarise([play()], {}, messages, stored(**changes), {})
    assert not summary.fine
    assert getattr(summary, figure) > 0
    others = {"missing", "duplicates", "unpublished"} - {figure}
    assert [getattr(summary, other) for other in others] == [0, 0]


def test_settled_waits_for_the_end_of_the_session() -> None:
    messages = [transcript("", 0, 1000)]
    assert tally.settled([play()], stored(), messages)
    assert not tally.settled([play()], stored(ended=frozenset()), messages)


def test_latency_counts_from_the_last_sound_not_from_the_end_of_the_window() -> None:
    one = play()
    one.audio[0, 2 * SECOND : 3 * SECOND] = tone(1)
    sent = {"s": SentLog([n * 1600 for n in range(1, 101)], [100 + n / 10 for n in range(1, 101)])}
    # Sound ends at 3 s: the chunk that ends there left at 103.0 s.
    assert tally.latencies_ms([one], sent, [transcript("hello", 1700, 3700, at_s=104.5)]) == [
        pytest.approx(1500)
    ]
    assert tally.latencies_ms([one], sent, [transcript("", 1700, 3700, at_s=104.5)]) == []
    assert sent["s"].when_s(10 * SECOND) is None


def test_everything_heard_on_a_channel_counts_against_its_texts() -> None:
    said = (
        Utterance(0, 0, SECOND, "first text", "prompt"),
        Utterance(0, SECOND, 2 * SECOND, "second text", "prompt"),
    )
    heard = [
        transcript("second text", 1000, 2000),
        transcript("first", 0, 900),
        transcript("invented", 5000, 6000),
    ]
    assert tally.spoken_and_heard([play(10.0, *said)], heard, "prompt") == [
        ("first text second text", "first second text invented")
    ]
    assert tally.spoken_and_heard([play(10.0, *said)], heard, "caller") == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """`eureka demo --json` on two files: all real parts, and a tiny model with random weights."""
    folder = tmp_path_factory.mktemp("demo")
    save(tiny.model(), tiny.tokenizer(), folder / "tiny.safetensors")
    for number, seconds in enumerate((2.0, 3.0)):
        pause = np.zeros(SECOND, np.int16)
        write_wav(folder / ("talk%d.wav" % number), np.concatenate([pause, voice(seconds, number), pause]))
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("EUREKA_", "DATABASE_URL"))
    }
    files = [str(folder / "talk0.wav"), str(folder / "talk1.wav")]
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", "demo", "--json", "--speed", "4", *files],
        cwd=ROOT,
        env=clean | {"EUREKA_CHECKPOINT": str(folder / "tiny.safetensors"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_whole_demo_on_real_parts(run: "subprocess.CompletedProcess[str]") -> None:
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    *results, summary = [json.loads(line) for line in run.stdout.splitlines()]
    assert summary["type"] == "summary"
    assert (summary["streams"], summary["audio_s"]) == (2, 9.0)
    assert (summary["missing"], summary["duplicates"], summary["unpublished"]) == (0, 0, 0)
    assert summary["wer"] is None
    assert summary["rows"] == summary["messages"]
    for kind, table in tally.TABLES.items():
        assert len([r for r in results if r["type"] == kind]) == summary["rows"][table]
    assert summary["rows"]["transcripts"] == 2
    assert summary["rows"]["captions"] == 2
    assert summary["windows"] == 4
    assert {r["stream_id"] for r in results} == {"talk0", "talk1"}


def test_json_and_talk_to_people_are_apart(run: "subprocess.CompletedProcess[str]") -> None:
    assert all(line.startswith("{") for line in run.stdout.splitlines())
    assert "embedded" in run.stderr
    assert "Traceback" not in run.stderr
