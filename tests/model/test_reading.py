"""Texts and questions read as a tree, against one pass over each by itself."""

import pytest
import torch

from model import tree
from model.cache import Prefix
from model.decoder import Qwen3Decoder
from model.reading import Ids, Reading
from tests.model import tiny

ENDS = (0, 1)
PROMPT = (7, 8, 9, 4, 5, 30, 2)


@pytest.fixture(scope="module")
def decoder() -> Qwen3Decoder:
    return tiny.decoder()


def begun(decoder: Qwen3Decoder, prompt: Ids = PROMPT) -> tuple[Prefix, torch.Tensor]:
    embeds = decoder.embed_tokens(torch.tensor(prompt))
    states, new = decoder.extend(embeds, torch.arange(len(prompt)), None, None)
    return new, states[-1]


def by_itself(decoder: Qwen3Decoder, text: Ids) -> tuple[float, float, bool]:
    """log P of a text, of its end, and whether the end is likeliest: one pass over prompt and text."""
    ids = torch.tensor(PROMPT + text)
    log_probs = decoder(decoder.embed_tokens(ids[None]))[0].log_softmax(-1)[len(PROMPT) - 1 :]
    total = sum(float(log_probs[i, token]) for i, token in enumerate(text))
    end = float(log_probs[-1, list(ENDS)].max())
    return total, end, end == float(log_probs[-1].max())


def test_equals_a_pass_over_each_text(decoder: Qwen3Decoder) -> None:
    reading = Reading(decoder, *begun(decoder), ENDS)
    rounds: list[list[Ids]] = [
        [()],
        [(5,), (6,), (), (7,), (8, 3, 3)],
        [(5, 6), (5, 6, 2), (5, 7), (5, 7)],  # all begin with 5: settled
        [(5, 6, 2, 9), (5, 6, 2, 9, 9), (5, 6, 2)],
        [(5, 6, 2)],
        [(5, 6, 2, 9, 1, 4)],
    ]
    settled: list[Ids] = []
    for texts in rounds:
        for text, found in zip(texts, reading.read(texts), strict=True):
            log_prob, end, likes = by_itself(decoder, text)
            assert found.log_prob == pytest.approx(log_prob, abs=1e-4)
            assert found.end_log_prob == pytest.approx(end, abs=1e-4)
            assert found.likes_to_end == likes
        settled.append(reading.settled)
    assert settled == [(), (), (5,), (5, 6, 2), (5, 6, 2), (5, 6, 2, 9, 1, 4)]
    with pytest.raises(ValueError, match="settled"):
        reading.read([(5, 7)])


def test_shared_beginnings_are_read_once(decoder: Qwen3Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    grow = tree.grow

    def counting(
        decoder: Qwen3Decoder, embeds: torch.Tensor, parents: list[int], before: tree.Tree
    ) -> tuple[torch.Tensor, tree.Tree]:
        sizes.append(len(parents))
        return grow(decoder, embeds, parents, before)

    monkeypatch.setattr(tree, "grow", counting)
    reading = Reading(decoder, *begun(decoder), ENDS)
    reading.read([(5, 6, 7), (5, 6, 8), (5, 9)])
    reading.read([(5, 6, 7, 1), (5, 6, 8, 1)])
    reading.read([(5, 6, 7, 1)])
    reading.read([(5, 6, 7, 1, 2)])
    assert sizes == [5, 2, 1]  # what has been read is not read again


def test_branches_do_not_see_each_other(decoder: Qwen3Decoder) -> None:
    past, _ = begun(decoder)
    branches: list[Ids] = [(5, 6, 7), (11,), (12, 13)]
    ids = torch.tensor([token for branch in branches for token in branch])
    parents = tree.side_by_side(len(branch) for branch in branches)
    assert parents == [-1, 0, 1, -1, -1, 4]
    together, grown = tree.grow(decoder, decoder.embed_tokens(ids), parents, tree.Tree.after(past))
    assert grown.read.length == 6
    end = 0
    for branch in branches:
        alone = decoder.hidden(decoder.embed_tokens(torch.tensor([PROMPT + branch])))[0, len(PROMPT) :]
        torch.testing.assert_close(together[end : end + len(branch)], alone, atol=1e-4, rtol=1e-4)
        end += len(branch)
