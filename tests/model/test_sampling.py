"""The repetition penalty and sampling against transformers' own processors; the loop stop."""

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from model.sampling import Sampling, loop_length, penalise, sample


def test_penalty_equals_transformers() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 50)
    seen_ids = torch.tensor([[3, 7, 7, 9], [0, 1, 2, 3]])
    seen = torch.zeros(2, 50, dtype=torch.bool).scatter(1, seen_ids, True)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen_ids, logits.clone())
    torch.testing.assert_close(penalise(logits, seen, torch.full((2, 1), 1.3)), expected)


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.6), (20, 0.8), (1, 1.0)])
def test_sampling_stays_in_the_nucleus_of_transformers(top_k: int, top_p: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(40) * 2
    kept = logits[None] / 0.7
    if top_k:
        kept = TopKLogitsWarper(top_k)(torch.zeros(1, 1, dtype=torch.long), kept)
    kept = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.long), kept)
    allowed = set(kept[0].isfinite().nonzero().flatten().tolist())
    generator = torch.Generator().manual_seed(3)
    drawn = {sample(logits, Sampling(0.7, top_p, top_k), generator) for _ in range(400)}
    assert drawn <= allowed
    assert int(logits.argmax()) in drawn


def test_temperature_zero_is_greedy() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0])
    assert sample(logits, Sampling(), torch.Generator()) == 1


@pytest.mark.parametrize(
    ("ids", "surplus"),
    [
        ([], 0),
        ([1, 2, 3] * 7, 0),  # 21 tokens: not yet
        ([9, 9, *[1, 2, 3] * 8], 21),
        ([5] * 23, 0),
        ([5] * 24, 23),
        (list(range(30)) * 2, 0),
        ([99, *list(range(30)) * 3], 60),
        (list(range(200)), 0),
    ],
)
def test_loop_length(ids: list[int], surplus: int) -> None:
    assert loop_length(ids) == surplus
