"""The whole training from scratch, bounded by steps: three stages, a falling loss, transcripts of unheard takes."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from model.train import recipe, smoke
from model.train.__main__ import main

WORD_ERROR_RATE = 0.2


@pytest.mark.timeout(600)  # half a minute of a processor's time, which a busy machine does not give at once
def test_a_training_from_scratch_reads_takes_it_never_heard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", "--work", str(tmp_path), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    stages = recipe.load(smoke.RECIPE).stage
    assert [(one["stage"], one["steps"]) for one in done["stages"]] == [
        (stage.name, stage.steps) for stage in stages
    ]
    assert all(one["last_loss"] < 0.7 * one["first_loss"] for one in done["stages"])
    assert done["words"] >= 60
    assert done["wer"] <= WORD_ERROR_RATE
    assert all(one["balanced"] and Path(one["picture"]).stat().st_size > 5000 for one in done["stages"])
    curves = EventAccumulator(str(tmp_path / "run" / "curves")).Reload()
    losses = curves.Scalars("loss/total")
    assert losses[-1].step == sum(stage.steps for stage in stages)
    assert len(losses) == sum(-(-stage.steps // stage.report_every) for stage in stages)
    assert main(["report", "--work", str(tmp_path / "run"), "--json"]) == 0
    load = json.loads(capsys.readouterr().out)
    assert load["least"] > 0.01
    assert sum(load["shares"]["all"]) == pytest.approx(1.0)
    assert set(load["shares"]) == {"all", "flite/slt", "flite/rms"}


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = ["--work", str(tmp_path)]
    nothing = [*work, "--data", str(tmp_path)]
    for arguments, what in (
        (["run", *work, "--recipe", "smoke"], "no manifest"),
        (["run", *work, "--recipe", "none"], "cannot be read"),
        (["report", *work], "no run in"),
        (["ablation", *work, "--data", "a.jsonl"], "--data and --test"),
        (["import-whisper", *nothing], "no file of Whisper base"),
        (["synthesise", *nothing], "no plan in"),
        (["test-set", *nothing], "no held-out voices"),
        (["librispeech", "--root", str(tmp_path), "--out", str(tmp_path / "out.jsonl")], "--download"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert what in error
        assert error.count("\n") == 1
