"""The recipe of nano from encoder states to a checkpoint, one step of each stage."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model import checkpoint
from model.config import CONFIGS
from model.encoder import WhisperEncoder
from model.evaluate import asr
from model.train import nano, recipe
from model.train.cache import Item, write_shard
from model.train.windows import QUESTIONS


def test_from_states_to_a_checkpoint(tmp_path: Path) -> None:
    folders = nano.Folders(tmp_path, (), tmp_path / "none", tmp_path / "none")
    torch.manual_seed(0)
    encoder = WhisperEncoder(CONFIGS["nano"].audio)
    save_file({name: value.half() for name, value in encoder.state_dict().items()}, folders.encoder)
    for source, text in (("flite", "hold"), ("sound", "")):
        (folders.features / source).mkdir(parents=True)
        items = [
            Item(f"{source}-{i}", 40, text, "A caption.", {"sound": "speech" if text else "noise"}, source)
            for i in range(2)
        ]
        states = [torch.randn(40, 512).half() for _ in items]
        write_shard(folders.features / source / f"{source}-00000.safetensors", items, states)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "flite.jsonl").write_text(json.dumps({"text": "hold"}) + "\n", encoding="utf-8")
    stages = recipe.load(nano.RECIPE).with_steps({stage.name: 1 for stage in recipe.load(nano.RECIPE).stage})
    out = tmp_path / "nano.safetensors"
    assert not nano.do(folders, nano.Amounts(threads=1), stages, ("fit",), out, stop=lambda: True)
    assert nano.do(folders, nano.Amounts(threads=1), stages, ("fit", "export"), out)
    loaded = checkpoint.load(out)
    assert loaded.config.questions == QUESTIONS
    assert (loaded.config.ctc_blocks, loaded.config.decoding.ctc_weight) == (4, 0.6)
    assert 0.0 <= loaded.config.decoding.speech_threshold <= 1.0
    # The lower encoder layers are those that were read, the last two were trained.
    new, old = loaded.model.audio_encoder.state_dict(), encoder.half().float().state_dict()
    changed = {
        name.split(".")[1] for name in new if "fc1.weight" in name and not torch.equal(new[name], old[name])
    }
    assert changed == {"4", "5"}


def test_a_test_set_is_found_from_a_relative_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("work/speech/test-flite")
    folder.mkdir(parents=True)
    line = {"audio": "a.wav", "text": "hold", "program": "flite", "source": "call"}
    (folder / "manifest.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (made,) = nano.write_test_set(nano.Folders(Path("work"), (), Path("none"), Path("none")))
    (one,) = asr.read_manifest(made)
    assert one.audio.resolve() == (tmp_path / folder / "a.wav").resolve()
