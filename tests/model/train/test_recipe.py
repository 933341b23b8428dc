"""A recipe is checked when it is read: the shipped ones are good, and what makes no sense is an error that says why."""

import dataclasses
import json
from pathlib import Path

import pytest

from model.config import CONFIGS
from model.train import ablation, recipe
from model.train.recipe import PAPER_MIX, RecipeError

STAGE = '[[stage]]\nname = "joint"\nsteps = 10\ntrain = ["adapter", "decoder"]\nrate = 1e-3\n'


@pytest.mark.parametrize("path", sorted(recipe.FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_good(path: Path) -> None:
    assert recipe.load(path).stage


def test_the_paper_s_stages() -> None:
    align, joint, sft = recipe.load(recipe.FOLDER / "paper.toml").stage
    assert align.train == ("adapter",)
    assert set(joint.train) == {"encoder", "adapter", "decoder"}
    assert sft.mix == PAPER_MIX == {"asr": 0.6, "paralinguistic": 0.1, "semantic": 0.2, "caption": 0.1}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("stage = 3", "stage"),
        ("[model", "no TOML"),
        (STAGE + "learning_rate = 1.0", "learning_rate: Extra inputs"),
        (STAGE + "mix = { asr = 0.0 }", "no task has a share"),
        (STAGE + "mix = { question = 1.0 }", "mix"),
        (STAGE + "jobs_per_window = 0.0", "decoder cannot learn"),
        (STAGE + STAGE, "same name"),
        (STAGE.replace("adapter", "lm"), "train"),
        (STAGE.replace("10", "0"), "steps"),
        ("[model]\nencoder_layers = 0\n" + STAGE.replace("adapter", "encoder"), "encoder_layers = 0"),
        ("[model]\nctc = false\n" + STAGE, "no CTC head"),
        ('[model]\nquestions = ["mood"]\n' + STAGE, "mood not among"),
        ('[model]\nstart = "a"\nencoder = "b"\n' + STAGE, "brings its encoder"),
        ("[model]\nencoder_layers = 7\n" + STAGE, "6 at most"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=what) as raised:
        recipe.load(path)
    assert str(path) in str(raised.value)


def test_paths_start_at_the_file_and_steps_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = '[model]\nencoder = "base"\n[data]\nmanifests = ["a.jsonl"]\n' + STAGE + "decay_steps = 4\n"
    path.write_text(text, encoding="utf-8")
    found = recipe.load(path)
    assert found.model.encoder == tmp_path / "base"
    assert found.data.manifests == (tmp_path / "a.jsonl",)
    shorter = found.with_steps({"joint": 5}).stage[0]
    assert (shorter.steps, shorter.decay_steps) == (5, 2)
    with pytest.raises(RecipeError, match="no stage named sft"):
        found.with_steps({"sft": 5})
    with pytest.raises(RecipeError, match="cannot be read"):
        recipe.load(tmp_path / "none.toml")


def test_the_dense_ffn_is_as_wide_as_what_is_active() -> None:
    routed, d_model = CONFIGS["nano"].adapter, CONFIGS["nano"].audio.d_model
    stages = recipe.load(ablation.RECIPE)
    dense = stages.with_model(adapter=ablation.dense(routed)).model.adapter_config()
    assert (dense.experts, dense.top_k, dense.shared_experts) == (1, 1, 0)
    active, total = ablation.ffn_weights(routed, d_model)
    assert ablation.ffn_weights(dense, d_model) == (active, active)
    assert total == 3 * active  # 2 of 8 and 1 shared
    assert json.dumps(dataclasses.asdict(dense))
