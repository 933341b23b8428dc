"""The loop without a network: made scenes, our own checkpoint in three ways, a judge that goes by rules."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.dataflux import made, signal
from model.dataflux.aspects import ASPECTS, item
from model.dataflux.items import broken_rule
from model.dataflux.prompts import load
from model.dataflux.truths import facts
from model.train import manifest
from model.train.sounds import Recordings
from model.train.truth import Channel, Heard, Segment, Truth
from workers.cli import app


def test_the_command_makes_training_data_that_can_be_read_and_a_report_with_pictures(tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = ["dataflux", "run", "--out", str(out), "--scenes", "3", "--recordings", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["finished"], told["clips"], told["left"]) == (3, 3, 0)
    assert 0 < told["kept"] <= told["questions"]
    questions = manifest.read(out / "questions.jsonl")
    assert len(questions) == told["kept"]
    assert all(len(one.choices) == 4 and one.licence for one in questions)
    truth = {clip.name: clip.load().truth for clip in made.clips(3, 1000, Recordings((), ()))}
    for line in (out / "details.jsonl").read_text().splitlines():
        one = json.loads(line)
        facts = truth[one["clip"]]
        assert facts is not None
        assert facts.facts is not None
        right = [a for a in one["answers"].values() if a["choice"] == one["item"]["key"]]
        if one["fate"] == "kept":
            said = ASPECTS[one["item"]["aspect"]].options[facts.facts[one["item"]["aspect"]]]
            assert one["item"]["options"][one["choice"]] == said
            assert one["hard"] == (len(right) == 1)
        elif one["fate"] == "no model right":
            assert right == []
    report = (out / "report.md").read_text()
    for name in ("categories", "discarded", "models", "examples"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"({name}.png)" in report
    assert "the same weights as caption" in report


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--answerer", "guess"], "no way to answer is called guess"),
        (["--answerer", "signal"], "1 answerers; it takes 2 to 8 different ones"),
    ],
)
def test_roles_that_cannot_work_are_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    call = ["dataflux", "run", "--out", str(tmp_path / "run"), "--scenes", "1", *arguments]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1
    assert said in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_what_is_asked_of_a_scene_follows_the_rules_of_every_question() -> None:
    categories = frozenset(load().categories)
    rng = random.Random(1)
    for aspect, known in ASPECTS.items():
        for value in known.options:
            for _ in range(4):
                one = item(aspect, value, rng)
                assert broken_rule(one, categories) is None, (aspect, value)
                assert one.options[one.key] == known.options[value]


PART = {"voice": "v", "pace": "slow", "source": "s", "text": "hello"}


def spoken(start: int, end: int, speaker: str, gender: str, level_dbfs: float = -27.0) -> Segment:
    return Segment(start, end, 0, speaker, gender=gender, level_dbfs=level_dbfs, **PART)


def truth(*parts: Segment | Heard) -> Truth:
    segments = tuple(part for part in parts if isinstance(part, Segment))
    sounds = tuple(part for part in parts if isinstance(part, Heard))
    return Truth(16_000, 100, (Channel("telephone", "clean", None, 0.0, 0),), segments, sounds)


def test_facts_hold_for_the_whole_scene() -> None:
    tones = Heard(0, 20, 0, "tones", "a busy tone", -20.0, "made")
    assert facts(truth(tones, spoken(20, 90, "a", "female"))) == {
        "sound": "speech",
        "speakers": "1",
        "line": "telephone",
        "background": "clean",
        "order": "sound, speech",
        "signal": "a busy tone",
        "voice": "female",
        "pace": "slow",
        "loudness": "normal",
    }
    between = Heard(40, 60, 0, "music", "music", -20.0, "made")
    turns = (spoken(0, 40, "a", "female"), spoken(60, 80, "b", "male"), spoken(80, 90, "a", "female"))
    assert facts(truth(*turns, between)) == {
        "sound": "speech",
        "speakers": "2",
        "line": "telephone",
        "background": "clean",
        "first": "female",
    }


def test_arithmetic_alone_tells_lines_levels_and_sounds_apart() -> None:
    rng = np.random.default_rng(1)
    time = np.arange(32_000) / 16_000
    hiss = rng.normal(0, 2000, 32_000)
    tone = 6000 * np.sin(2 * np.pi * 440 * time)
    buzz = sum(3000 / k * np.sin(2 * np.pi * 120 * k * time) for k in range(1, 12))
    wide, narrow, hum = (signal.measure(wave.astype(np.int16)) for wave in (hiss + buzz, tone, buzz))
    assert (signal.line(wide), signal.line(narrow)) == ("wideband", "telephone")
    assert (signal.sound(narrow, 0), signal.sound(narrow, 2)) == ("tones", "speech")
    assert signal.sound(signal.measure(hiss.astype(np.int16)), 0) == "noise"
    assert signal.voice(hum) == "male"
    quiet = np.concatenate([np.zeros(16_000), buzz, np.zeros(8_000), hiss]).astype(np.int16)
    assert signal.order(quiet, 16_000, 48_000) == "speech, sound"
    assert signal.order(quiet[:50_000], 16_000, 48_000) == "speech"
    assert [signal.loudness((buzz * gain).astype(np.int16)) for gain in (0.05, 0.4, 2.0)] == [
        "quiet",
        "normal",
        "loud",
    ]
    silent = signal.measure(np.zeros(100, np.int16))
    assert (signal.sound(silent, 0), signal.line(silent), signal.voice(silent)) == ("silence", None, None)
