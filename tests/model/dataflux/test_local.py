"""The loop without a network: made scenes, our own checkpoint in three ways, a judge that goes by rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model.dataflux import made, signal
from model.dataflux.aspects import ASPECTS
from model.train import manifest
from model.train.sounds import Recordings
from workers.cli import app


def test_the_command_makes_training_data_that_can_be_read_and_a_report_with_pictures(tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = ["dataflux", "run", "--out", str(out), "--scenes", "4", "--recordings", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["finished"], told["clips"], told["left"]) == (4, 4, 0)
    assert 0 < told["kept"] <= told["questions"]
    questions = manifest.read(out / "questions.jsonl")
    assert len(questions) == told["kept"]
    assert all(len(one.choices) == 4 and one.licence == made.LICENCE for one in questions)
    truth = {clip.name: clip.load().truth for clip in made.clips(4, 1000, Recordings((), ()))}
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
    silent = signal.measure(np.zeros(100, np.int16))
    assert (signal.sound(silent, 0), signal.line(silent), signal.voice(silent)) == ("silence", None, None)
