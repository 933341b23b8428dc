import pytest
import torch

from model.train import threshold
from model.train.batches import Example
from model.train.cache import Item
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
    chosen = threshold.choose(model, examples)
    assert chosen.windows == 4
    assert 0.0 <= chosen.value <= 1.0
    with pytest.raises(ValueError):
        threshold.choose(model, examples[:2])
