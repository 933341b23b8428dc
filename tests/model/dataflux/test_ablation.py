"""The ablation trains twice from one start, and tells of the same questions what all three checkpoints answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from model import checkpoint, device
from model.dataflux import ablation
from model.dataflux.score import Answered
from model.dataflux.values import Item, plain
from model.train import manifest
from model.train.distributed import Processes
from model.train.manifest import Sample
from model.train.recipe import ModelTable, Recipe, Stage
from tests.model import tiny
from workers.recordings import write_wav

PACE = Item("At what pace?", ("slow", "fast", "none", "both"), 1, "Speech > Delivery > pace")
WHO = Item("Who?", ("a man", "a woman", "nobody", "a choir"), 2, "Speech > Speaker > voice")


def _sample(audio: Path, task: str, item: Item | None = None) -> Sample:
    asked = {"prompt": item.text, "choices": item.options} if item else {"prompt": ""}
    answer = item.options[item.key] if item else "please hold the line"
    common = {"audio": audio, "task": task, "language": "en", "licence": "CC0-1.0"}
    return Sample.model_validate({"answer": answer, **asked, **common})


def _run(folder: Path, seed: int) -> Path:
    """What a run of DataFlux leaves: two clips, two questions about each."""
    asked: list[Sample] = []
    audio = [folder / f"{number}.wav" for number in range(2)]
    for path in audio:
        folder.mkdir(exist_ok=True)
        write_wav(path, np.random.default_rng(seed + len(asked)).normal(0, 4000, 20_000).astype(np.int16))
        asked += [_sample(path, "paralinguistic", item) for item in (PACE, WHO)]
    manifest.write(folder / "questions.jsonl", asked)
    manifest.write(folder / "captions.jsonl", [_sample(path, "caption") for path in audio])
    details = [{"clip": "c", "fate": "audio: no_audio"}, *({"item": plain(item)} for item in (PACE, WHO))]
    (folder / "details.jsonl").write_text("".join(json.dumps(line) + "\n" for line in details))
    return folder


def test_both_trainings_begin_at_the_start_and_differ_by_the_questions_alone(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    checkpoint.save(tiny.model(), tiny.tokenizer(), start)
    flux, test = _run(tmp_path / "flux", 1), _run(tmp_path / "test", 9)
    data = tmp_path / "sft.jsonl"
    manifest.write(data, [_sample(flux / "0.wav", "asr"), _sample(test / "0.wav", "asr")])
    stage = Stage(name="sft", steps=2, train=("decoder",), rate=1e-2, ctc=0.0, balance=0.0)
    stages = Recipe(model=ModelTable(start=start, encoder_layers=0), stage=(stage,))
    with device.one_thread():
        trained = ablation.train(stages, [data], flux, tmp_path / "work", Processes(torch.device("cpu")))
        found = {
            name: ablation.ask(path, test, "cpu", 1) for name, path in {"start": start, **trained}.items()
        }
    assert list(found) == ["start", "without", "with"]
    assert {len(one.right) for one in found.values()} == {4}
    kept = {name: json.loads((tmp_path / "work" / name / "recipe.json").read_text()) for name in trained}
    added = {str(flux / "questions.jsonl"), str(flux / "captions.jsonl")}
    manifests = {name: set(one["data"].pop("manifests")) for name, one in kept.items()}
    assert manifests["with"] - manifests["without"] == added
    assert kept["with"] == kept["without"]
    weights = {
        name: checkpoint.load(path).model.decoder.lm_head.weight
        for name, path in {"start": start, **trained}.items()
    }
    assert not weights["start"].equal(weights["without"])
    assert not weights["without"].equal(weights["with"])


def test_the_table_tells_shares_with_intervals_and_the_difference_in_pairs(tmp_path: Path) -> None:
    test = _run(tmp_path / "test", 9)
    asked = tuple(manifest.read(test / "questions.jsonl"))
    none, half = (0.0,) * 4, (1.0, 0.0, 1.0, 0.0)
    answered = {
        "start": Answered(asked, none, none),
        "without": Answered(asked, none, half),
        "with": Answered(asked, half, none),
    }
    known = ablation.categories(test)
    told = ablation.write(tmp_path, {name: ablation.measures(one, known) for name, one in answered.items()})
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in told.splitlines()}
    assert list(rows)[2:] == [
        "all questions",
        "asked about another clip",
        "the first less the second",
        PACE.category,
        WHO.category,
    ]
    assert rows["the first less the second"][2].startswith("-50.0 ")
    assert rows["all questions"][0] == "4"
    assert rows["all questions"][-1] == "+50.0 (+50.0 to +50.0) |"  # half of each clip's, whichever are drawn
    assert rows[PACE.category][-1] == "+100.0 (+100.0 to +100.0) |"
    record = json.loads((tmp_path / "ablation.json").read_text())
    assert record["with"]["all questions"] == {"value": 50.0, "low": 50.0, "high": 50.0, "items": 2}
    assert (tmp_path / "shares.png").stat().st_size > 0
