"""CTC prefix beam search against the sum over all paths."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model import beam


def random_head(seed: int, frames: int, tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, tokens + 1, generator=generator)).log_softmax(dim=-1)


def every_text(log_probs_NV: Tensor) -> dict[beam.Ids, float]:
    """Probability of each text, path by path."""
    frames, width = log_probs_NV.shape
    found: dict[beam.Ids, float] = {}
    for path in itertools.product(range(width), repeat=frames):
        text = tuple(token for token, _ in itertools.groupby(path) if token != width - 1)
        found[text] = found.get(text, 0.0) + math.exp(
            sum(float(log_probs_NV[n, token]) for n, token in enumerate(path))
        )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_likeliest_texts_of_all(seed: int) -> None:
    log_probs_NV = random_head(seed, frames=5, tokens=3)
    by_all_paths = every_text(log_probs_NV)
    best = sorted(by_all_paths, key=lambda text: -by_all_paths[text])
    found = beam.search(log_probs_NV, width=400, margin=math.inf)
    assert [ids for ids, _ in found[:6]] == best[:6]
    for ids, score in found[:6]:
        assert score == pytest.approx(math.log(by_all_paths[ids]), abs=1e-4)


def test_a_repeat_needs_a_blank_between() -> None:
    path = torch.full((3, 3), -9.0)
    for frame, token in enumerate((1, 2, 1)):
        path[frame, token] = 0.0
    assert beam.search(path.log_softmax(-1), width=4)[0][0] == (1, 1)
    path[1] = torch.tensor([-9.0, 0.0, -9.0])
    assert beam.search(path.log_softmax(-1), width=4)[0][0] == (1,)


def test_the_likeliest_text_may_not_be_on_the_likeliest_path() -> None:
    # Two frames of 0.4 for the token and 0.6 for the blank: the path of blanks is likeliest, the text is the token.
    log_probs_NV = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()
    assert [ids for ids, _ in beam.search(log_probs_NV, width=2)] == [(0,), ()]


@pytest.mark.parametrize("seed", range(3))
def test_with_a_decoder_the_joint_score_ranks(seed: int) -> None:
    log_probs_NV = random_head(seed, frames=5, tokens=3)
    table = (2 * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))).log_softmax(-1).tolist()

    def written(texts: Sequence[beam.Ids]) -> list[float]:
        return [
            sum(table[before][token] for before, token in itertools.pairwise((3, *text))) for text in texts
        ]

    joint = {
        text: 0.6 * math.log(heard) + 0.4 * written([text])[0]
        for text, heard in every_text(log_probs_NV).items()
    }
    best = sorted(joint, key=lambda text: -joint[text])
    found = beam.search(log_probs_NV, 400, written=written, weight=0.6, margin=math.inf)
    assert [ids for ids, _ in found[:6]] == best[:6]
    assert [score for _, score in found[:6]] == [pytest.approx(joint[ids], abs=1e-4) for ids in best[:6]]


def test_the_decoder_is_asked_once_in_a_while_and_at_the_end() -> None:
    log_probs_NV = random_head(3, frames=2 * beam.ASK_FRAMES + 5, tokens=6)
    asked: list[list[beam.Ids]] = []

    def written(texts: Sequence[beam.Ids]) -> list[float]:
        asked.append(list(texts))
        return [-0.1 * len(text) for text in texts]

    found = beam.search(log_probs_NV, 4, written=written, weight=0.5, margin=math.inf)
    assert len(asked) == 3
    assert all(len(texts) <= 4 * beam.WIDER for texts in asked)
    assert {ids for ids, _ in found} <= set(asked[-1])  # what is returned has been read to its end
    for before, after in itertools.pairwise(asked):
        assert all(any(text[: len(ids)] == ids for ids in before) for text in after)


def test_ignored_tokens_are_no_text_and_the_width_is_kept() -> None:
    log_probs_NV = random_head(7, frames=12, tokens=20)
    found = [ids for ids, _ in beam.search(log_probs_NV, width=8, ignored=range(4), margin=math.inf)]
    assert len(found) == len(set(found)) == 8
    assert all(token >= 4 for ids in found for token in ids)
    with pytest.raises(ValueError, match="width"):
        beam.search(log_probs_NV, width=0)


def test_what_falls_far_behind_is_given_up() -> None:
    log_probs_NV = random_head(7, frames=12, tokens=20)
    found = beam.search(log_probs_NV, width=8, margin=0.1)
    assert 1 <= len(found) < 8
    assert all(score > found[0][1] - 0.1 for _, score in found)
    assert found == beam.search(log_probs_NV, width=8, margin=0.1)


def test_what_the_decoder_said_of_a_text_stands_whatever_it_grows_from() -> None:
    before = beam.Prefix(-1.0, -2.0, -1.0), beam.Prefix(-3.0, -2.0, -6.0)
    likely = {2: -0.1, 3: -4.0}
    for order in (((1,), (1, 2)), ((1, 2), (1,))):
        made = dict(zip(((1,), (1, 2)), before, strict=True))
        grown = beam._grow({ids: made[ids] for ids in order}, -0.5, likely)
        assert grown[1,].written == grown[1, 3].written == -1.0
        assert grown[1, 2].written == grown[1, 2, 3].written == -6.0
