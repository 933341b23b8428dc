"""`eureka evaluate …` on a tiny model: figures of model.evaluate, and the segmenter before the engine."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import save
from model.engine import Engine
from tests.model import tiny
from tests.streams.sound import noise, voice
from workers import evaluate
from workers.limits import cutter_config
from workers.recordings import write_wav
from workers.settings import Settings


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("evaluate") / "tiny.safetensors"
    save(tiny.model(), tiny.tokenizer(), path)
    return evaluate.open_engine(Settings(), path, "cpu")


def test_manifest_gives_error_rate_and_speed(engine: Engine, tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", voice(2.0, 1))
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "one.wav", "text": "please hold the line"}) + "\n")
    report = evaluate.on_manifest(engine, manifest)
    assert (report["model"], report["utterances"], report["words"]) == ("tiny", 1, 4)
    assert report["wer"] > 0
    assert report["times_real_time"] > 0
    json.dumps(report)


def test_word_times_of_a_manifest_need_words_with_times(engine: Engine, tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", voice(1.0, 1))
    line = {"audio": "one.wav", "text": "please hold", "words": [["please", 0, 400], ["hold", 400, 900]]}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    report = evaluate.on_times(engine, tmp_path / "m.jsonl", None, align=False)
    assert (report["utterances"], report["words"]) == (1, 2)
    assert [one["unit"] for one in report["measures"]] == ["ms", "ms", "ms", "ms", "%"]
    (tmp_path / "m.jsonl").write_text(json.dumps(line | {"words": []}) + "\n")
    with pytest.raises(ValueError, match="no word has a known time"):
        evaluate.on_times(engine, tmp_path / "m.jsonl", None, align=False)


def test_a_manifest_without_lines_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no reference"):
        evaluate.on_manifest(engine, tmp_path / "empty.jsonl")


def test_end_to_end_only_asks_about_what_the_vad_lets_through(engine: Engine) -> None:
    cutter = cutter_config(Settings())
    silence = np.zeros(48_000, np.int16)
    assert evaluate._end_to_end(engine, [silence, noise(3, 1)], cutter) == {
        "end_to_end_words": 0,
        "end_to_end_windows": 0,
    }
    assert evaluate._end_to_end(engine, [silence, voice(3, 1)], cutter)["end_to_end_windows"] == 1
