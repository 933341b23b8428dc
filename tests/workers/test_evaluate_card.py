"""`eureka evaluate card` goes on where it stopped, on a tiny model, and is made anew for other weights."""

import json
import multiprocessing
from pathlib import Path

import pytest

from model.checkpoint import save
from tests.model import tiny
from tests.model.evaluate import made
from workers import evaluate_card
from workers.evaluate_card import Data, Step
from workers.settings import Settings

SETTINGS = Settings(engine_threads=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "tiny.safetensors"
    save(tiny.model(), tiny.tokenizer(), path)
    return path


def manifest(folder: Path, text: str) -> Path:
    made.encode(folder / "one.wav", made.said(0.8))
    path = folder / "calls.jsonl"
    path.write_text(json.dumps({"audio": "one.wav", "text": text}) + "\n")
    return path


def card(checkpoint: Path, todo: list[Step], out: Path, again: bool = False) -> tuple[list[str], list[str]]:
    """What was said, and the names of the steps that failed."""
    said: list[str] = []
    measured = evaluate_card.on_card(SETTINGS, checkpoint, "cpu", todo, out, again, said.append)
    return said, [one.name for one in measured if one.report is None]


def test_a_step_is_made_once_for_the_same_weights_and_inputs(checkpoint: Path, tmp_path: Path) -> None:
    data = Data(tmp_path / "none", (manifest(tmp_path, "please hold the line"),))

    def of_manifest() -> list[Step]:
        return [one for one in evaluate_card.steps(data, SETTINGS, print) if one.name == "asr calls"]

    out = tmp_path / "out"
    assert card(checkpoint, of_manifest(), out) == (["1/1 asr calls"], [])
    assert "4 words" in (out / "card.md").read_text()
    assert [path.name for path in out.glob("*.json")] == ["asr-calls.json"]
    before = (out / "card.md").read_bytes()
    assert card(checkpoint, of_manifest(), out) == (["1/1 asr calls: made before"], [])
    assert (out / "card.md").read_bytes() == before
    assert card(checkpoint, of_manifest(), out, again=True) == (["1/1 asr calls"], [])
    manifest(tmp_path, "please hold")
    assert card(checkpoint, of_manifest(), out) == (["1/1 asr calls"], [])
    assert "2 words" in (out / "card.md").read_text()
    other = tmp_path / "other.safetensors"
    model = tiny.model()
    next(iter(model.parameters())).data.add_(1e-3)
    save(model, tiny.tokenizer(), other)
    assert card(other, of_manifest(), out) == (["1/1 asr calls"], [])


@pytest.mark.parametrize("found", ["", '{"sha256": "', "[]", "null", '{"report": 1}'])
def test_a_file_that_is_no_report_counts_as_none(tmp_path: Path, found: str) -> None:
    (tmp_path / "step.json").write_text(found)
    assert evaluate_card._made(tmp_path / "step.json", {}) is None


def test_other_prompts_are_other_inputs(tmp_path: Path) -> None:
    one, other = (
        {step.name: step.inputs for step in evaluate_card.steps(Data(tmp_path / name), SETTINGS, print)}
        for name in ("one", "other")
    )
    assert [name for name in one if one[name] == other[name]] == []


def test_two_processes_may_write_one_page(tmp_path: Path) -> None:
    page = tmp_path / "card.md"

    def write() -> None:
        for _ in range(500):
            evaluate_card._write(page, "x" * 2000)

    writers = [multiprocessing.get_context("fork").Process(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_a_step_that_fails_stops_no_other_and_is_tried_again(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    data = Data(tmp_path / "none", (manifest(tmp_path, "hold"),), takes=tmp_path / "digits")
    todo = [one for one in evaluate_card.steps(data, SETTINGS, print) if one.name in ("digits", "asr calls")][
        ::-1
    ]
    out = tmp_path / "out"
    said, failed = card(checkpoint, todo, out)
    assert failed == ["digits"]
    assert said[-1] == "2/2 asr calls"
    assert "holds no digit" in (out / "card.md").read_text().partition("## Not measured")[2]
    assert card(checkpoint, todo, out)[1] == ["digits"]


def test_steps_are_as_many_as_the_data_allow(tmp_path: Path) -> None:
    path = manifest(tmp_path, "hold")
    full = Data(tmp_path, (path,), tmp_path, tmp_path, tmp_path)
    names = [one.name for one in evaluate_card.steps(full, SETTINGS, print)]
    assert names == [
        "asr calls",
        "prompts",
        "scenes",
        "nonspeech",
        "times",
        "voices",
        "digits",
        "events",
        "sphinx",
    ]
    with pytest.raises(ValueError, match="one name: asr calls"):
        evaluate_card.steps(Data(tmp_path, (path, path)), SETTINGS, print)
