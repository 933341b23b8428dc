"""`eureka evaluate report` with the shipped checkpoint: the page, its pictures, and a difference to another."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.evaluate.findings import Findings, Sources, Worst
from model.evaluate.measures import Measure
from model.evaluate.report import page
from tests.model.evaluate import made
from workers import evaluate_pages
from workers.settings import Settings

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_report_of_the_shipped_checkpoint(tmp_path: Path) -> None:
    lines = []
    for number in range(2):
        made.encode(tmp_path / f"{number}.wav", made.said(1.0, number))
        lines.append({"audio": f"{number}.wav", "text": "hello there", "labels": {"voice": "female"}})
    manifest = tmp_path / "held out.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    pad = np.zeros(800, np.int16)
    made.encode(tmp_path / "takes" / "5_theo_0.flac", np.concatenate([pad, made.said(0.4), pad]))
    made.encode(tmp_path / "events" / "rain" / "4-1.ogg", made.said(0.5))
    sources = Sources(takes=tmp_path / "takes", sounds=tmp_path / "events", manifests=(manifest,), strings=2)
    settings = Settings(engine_threads=1)
    done = evaluate_pages.on_report(settings, (), "cpu", sources, tmp_path / "out", lambda line: None)
    assert done["checkpoints"] == 1
    assert done["missing"] == ["voice, line, background, scenes, non-speech: the demo's recordings"]
    names = [one["name"] for one in done["measures"]]
    assert names[:2] == ["held out: WER", "held out: CER"]
    assert "digit strings, held-out speaker, by ctc: WER" in names
    told = (tmp_path / "out" / "report.md").read_text()
    assert "## Worst utterances: nano" in told
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert {path.name for path in pictures} >= {"shares.png", "confusions-1.png"}
    assert all(path.read_bytes().startswith(PNG) and f"({path.name})" in told for path in pictures)
    (found,) = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["question"] for one in found["confusions"]] == ["our question", "sound", "voice"]


def test_checkpoints_are_compared_in_pairs() -> None:
    def findings(name: str, tops: tuple[float, ...]) -> Findings:
        wer = Measure("set: WER", "%", "lower", tops, (5.0,) * len(tops))
        return Findings(name, "eureka", "cpu", [wer], worst=[Worst("set", "a|b", "", 2, 2)])

    first = findings("first", (2.0, 1.0) * 20)
    told = page([first, findings("second", (1.0, 0.0) * 20), findings("third", (2.0,) * 3)], [], "Made.")
    (row,) = [line for line in told.splitlines() if line.startswith("| set: WER")]
    assert "better: -20.00 (-20.00 – -20.00)" in row
    assert "other items" in row
    assert "| set | 2 / 2 | a\\|b | (nothing) |" in told


def test_no_judge_without_a_setting() -> None:
    assert evaluate_pages.judge(Settings()) is None
    with pytest.raises(ValueError, match="judge"):
        Settings(evaluate_judge="nowhere")  # type: ignore[arg-type]
