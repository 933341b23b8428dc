"""Learning curves: what was written for TensorBoard, run after run."""

from pathlib import Path

import pytest

from model.train import learning
from model.train.__main__ import main
from model.train.curves import Curves


def written(run: Path, *losses: float) -> Path:
    with Curves(run / learning.CURVES, "joint", 10 * len(losses), before=0, start=0) as watcher:
        for number, loss in enumerate(losses, 1):
            watcher.report(10 * number, {"loss/ctc": loss, "loss/decoder": 0.0, "rate": 1.0}, "")
    return run


def test_runs_are_drawn_one_after_the_other(tmp_path: Path) -> None:
    runs = [written(tmp_path / "a", 4.0, 2.0), written(tmp_path / "b", 1.0)]
    shifted, begins = learning.laid_out([learning.read(run) for run in runs])
    assert shifted == [
        {"loss/ctc": [(10, 4.0), (20, 2.0)], "loss/decoder": []},
        {"loss/ctc": [(30, 1.0)], "loss/decoder": []},
    ]
    assert begins == [20]
    picture = tmp_path / "pictures" / "curves.png"
    assert main(["curves", "--work", *map(str, runs), "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curves", "--work", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 1
    assert "no curves in" in capsys.readouterr().err
