"""`eureka evaluate examples` with the shipped checkpoint on a real program's speech, and the page's own rules."""

import json
import re
import subprocess
import wave
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.answers import Word
from model.evaluate import examples
from model.evaluate.asr import Reference
from model.evaluate.examples import Part
from model.evaluate.heard import Heard, Piece
from model.evaluate.text import errors
from tests.model.evaluate import made
from workers.cli import app

SAID = "please hold the line"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of the same words by flite; two of the references say something else."""
    folder = tmp_path_factory.mktemp("flite")
    subprocess.run(["flite", "-voice", "slt", "-t", SAID, "-o", str(folder / "one.wav")], check=True)
    texts = (SAID, SAID + " my dear friend", "<b>nobody</b> said this")
    lines = [json.dumps({"audio": "one.wav", "text": text, "group": "flite"}) + "\n" for text in texts]
    (folder / "calls.jsonl").write_text("".join(lines))
    return folder / "calls.jsonl"


def test_the_worst_can_be_listened_to(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", "examples", "--manifest", str(manifest), "--count", "2", "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[0])
    assert (report["utterances"], len(report["examples"])) == (3, 2)
    found = json.loads((out / "examples.json").read_text())
    assert [one["reference"] for one in found] == ["<b>nobody</b> said this", SAID + " my dear friend"]
    rates = [one["word_errors"] / one["words"] for one in found]
    assert rates == sorted(rates, reverse=True)
    assert all(0 < one["confidence"] <= 1 for one in found)
    page = (out / "index.html").read_text()
    assert (
        re.findall(r'<audio [^>]*src="([^"]+)"', page)
        == ["001.wav", "002.wav"]
        == sorted(path.name for path in out.glob("*.wav"))
    )
    assert "<b>" not in page
    assert "<del>my dear friend</del>" in page
    assert "calls" not in page  # the page is about recordings
    assert str(manifest.parent / "one.wav") in page
    for name in ("001.wav", "002.wav"):
        with wave.open(str(out / name)) as file:
            assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
            assert file.getnframes() / 16_000 == pytest.approx(found[0]["seconds"], abs=0.01)
    done = CliRunner().invoke(app, [*arguments[:-3], "1", "--out", str(out), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert [path.name for path in out.glob("*.wav")] == ["001.wav"]  # the page's and no older ones


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "001.wav").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds no examples"):
        examples.write(tmp_path, [], "title")
    assert (tmp_path / "001.wav").read_bytes() == b"mine"


def test_a_run_that_was_stopped_while_it_wrote_is_made_again(tmp_path: Path) -> None:
    audio, out = made.encode(tmp_path / "a.wav", made.said(0.2)), tmp_path / "out"

    def heard(path: Path) -> Heard:
        return Heard(Reference(path, "a b"), (Piece("a", 0.5, ()),), errors("a b", "a", "en"), 0.2)

    with pytest.raises(OSError, match="gone"):
        examples.write(out, [heard(audio), heard(tmp_path / "gone.wav")], "title")
    assert [one.file for one in examples.write(out, [heard(audio)], "title")] == ["001.wav"]


def test_differences_are_those_that_are_counted() -> None:
    assert examples.differences("Please hold on.", "please fold", "en") == (
        Part("please", "please"),
        Part("hold", "fold"),
        Part("on", ""),
    )
    assert examples.differences("hold", "", "en") == (Part("hold", ""),)
    assert examples.differences("你好", "你们好", "zh") == (
        Part("你", "你"),
        Part("", "们"),
        Part("好", "好"),
    )


def test_the_worst_come_first_and_the_right_ones_not_at_all(tmp_path: Path) -> None:
    audio = made.encode(tmp_path / "a.wav", made.said(0.2))

    def heard(said: str, text: str) -> Heard:
        word = Word("x", 0, 1, 0.5)
        return Heard(Reference(audio, said), (Piece(text, 0.5, (word,)),), errors(said, text, "en"), 0.2)

    some = [
        heard("a b c d", "a"),
        heard("a b", ""),
        heard("same", "same"),
        heard("", "x"),
        heard("a b c d", ""),
    ]
    assert [one.reference.text for one in examples.worst(some, 9)] == ["a b c d", "a b", "a b c d"]
    assert [one.text for one in examples.worst(some, 9)] == ["", "", "a"]
    assert len(examples.worst(some, 1)) == 1
