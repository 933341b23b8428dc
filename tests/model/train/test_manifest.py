"""A manifest is read whole or not at all, and written so that it reads back equal."""

import json
from pathlib import Path

import pytest

from model.train.manifest import ManifestError, Sample, by_window, read, write

GOOD = {
    "audio": "clips/one.wav",
    "task": "asr",
    "prompt": "",
    "answer": "please hold",
    "language": "en",
    "licence": "CC-BY-4.0",
}
QUESTION = GOOD | {
    "task": "paralinguistic",
    "prompt": "Who speaks?",
    "answer": "a man",
    "choices": ["a woman", "a man"],
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one.wav").touch()
    return tmp_path / "train.jsonl"


def test_samples_read_back_as_they_were_written(manifest: Path) -> None:
    audio = manifest.parent / "clips" / "one.wav"
    samples = [
        Sample.model_validate_json(json.dumps(raw | {"audio": str(audio)}))
        for raw in (GOOD, QUESTION, GOOD | {"start": 1.0, "end": 2.5})
    ]
    assert write(manifest, samples) == 3
    assert json.loads(manifest.read_text(encoding="utf-8").splitlines()[0]) == GOOD
    assert read(manifest) == samples
    assert [len(window) for window in by_window(samples)] == [2, 1]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ("{", "Invalid JSON"),
        ({key: value for key, value in GOOD.items() if key != "licence"}, "licence: Field required"),
        (GOOD | {"licence": " "}, "licence"),
        (GOOD | {"licence": "unknown"}, "licence must be known"),
        (GOOD | {"licence": None}, "licence"),
        (GOOD | {"task": "question"}, "task"),
        (GOOD | {"licenc": "MIT"}, "Extra inputs"),
        (GOOD | {"answer": 7}, "answer"),
        (GOOD | {"language": "English"}, "language"),
        (GOOD | {"audio": "clips/two.wav"}, "no file"),
        (GOOD | {"choices": ["a", "b"]}, "choices"),
        (GOOD | {"answer": "<|im_end|>"}, "special"),
        (GOOD | {"start": 3.0, "end": 2.0}, "after start"),
        (GOOD | {"end": 31.0}, "at most 30 s"),
        (GOOD | {"task": "caption", "answer": ""}, "empty answer"),
        (QUESTION | {"prompt": ""}, "must ask"),
        (QUESTION | {"answer": "B"}, "one of the choices"),
        (QUESTION | {"choices": ["a man"]}, "at least two"),
    ],
)
def test_a_bad_line_is_an_error_with_its_number(manifest: Path, bad: object, what: str) -> None:
    line = bad if isinstance(bad, str) else json.dumps(bad)
    manifest.write_text(f"{json.dumps(GOOD)}\n{line}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=what) as raised:
        read(manifest)
    assert f"{manifest}:2: " in str(raised.value)


def test_an_empty_manifest_is_an_error(manifest: Path) -> None:
    manifest.touch()
    with pytest.raises(ManifestError, match="no line"):
        read(manifest)
