from pathlib import Path

import pytest
import torch

from model.train import threshold
from model.train.cache import Item
from model.train.dataset import Example
from model.train.nano import THRESHOLD_SHARDS, threshold_shards
from tests.model import tiny


def test_halfway_in_log_odds() -> None:
    assert threshold.halfway(0.01, 0.99) == pytest.approx(0.5)
    assert 0.01 < threshold.halfway(0.01, 0.5) < 0.2
    assert threshold.halfway(0.6, 0.4) == 0.4  # they overlap: speech decides


def test_the_choice_counts_what_it_would_do() -> None:
    model = tiny.model()
    examples = [
        Example(Item(str(i), 40, text, None, {}, "test"), torch.randn(40, 32))
        for i, text in enumerate(["a", "b", "", ""])
    ]
    chosen = threshold.choose(model, examples, 2)
    assert chosen.windows == 4
    assert 0.0 <= chosen.value <= 1.0
    with pytest.raises(ValueError):
        threshold.choose(model, examples[:2], 2)


def test_every_source_is_in_the_sample(tmp_path: Path) -> None:
    """Drawn from all shards together, a sample held no pure sound: nothing to set the threshold against."""
    for source, shards in {"flite": 50, "espeak": 50, "sound": 1}.items():
        (tmp_path / source).mkdir()
        for shard in range(shards):
            (tmp_path / source / f"{shard:03}.safetensors").touch()
    chosen = [name.split("/")[0] for name in threshold_shards(tmp_path)]
    assert sorted(chosen) == ["espeak"] * THRESHOLD_SHARDS + ["flite"] * THRESHOLD_SHARDS + ["sound"]
