"""What the decoder expects after a text, against one pass over prompt and text."""

import pytest
import torch

from model import device
from model.beam import Ids
from model.continuations import Continuations
from model.decoder import Qwen3Decoder
from model.generate import Generator
from tests.model import tiny


@pytest.fixture(scope="module")
def decoder() -> Qwen3Decoder:
    return tiny.decoder()


def at_once(decoder: Qwen3Decoder, prompt: torch.Tensor, text: Ids) -> list[float]:
    whole = torch.cat([prompt, torch.tensor(text, dtype=torch.long)])
    logits: list[float] = decoder(decoder.embed_tokens(whole[None]))[0, -1].log_softmax(-1).tolist()
    return logits


@pytest.mark.parametrize("with_prefix", [False, True])
def test_equals_a_pass_over_the_whole(decoder: Qwen3Decoder, with_prefix: bool) -> None:
    generator = Generator(decoder, (0, 1), slots=3, capacity=64)
    prompt = torch.tensor([7, 8, 9, 4, 5, 30, 2])
    embeds = decoder.embed_tokens(prompt)
    prefix = None
    if with_prefix:
        generator.prefill(embeds[:3])
        prefix = generator.cache.snapshot(0, 3)
        embeds = embeds[3:]
    continuations = Continuations(generator, embeds, prefix)
    # More texts than slots, of different lengths, some asked for again, in an order that reuses slots.
    rounds: list[list[Ids]] = [
        [()],
        [(5,), (6,), (), (7,), (8,)],
        [(5, 6), (8, 1), (7,), (6,), (8,)],
        [(5, 6, 2), (6, 6), (8, 1, 1), (7, 7), (8,), (7,)],
    ]
    for texts in rounds:
        for text, found in zip(texts, continuations.expect(texts), strict=True):
            assert found == pytest.approx(at_once(decoder, prompt, text), abs=1e-4)
        assert set(continuations.known) == set(continuations.after) == set(texts)  # memory does not grow
    with pytest.raises(KeyError):
        continuations.expect([(9, 9, 9)])


def test_what_is_expected_does_not_depend_on_the_texts_beside(decoder: Qwen3Decoder) -> None:
    generator = Generator(decoder, (0, 1), slots=4, capacity=64)
    embeds = decoder.embed_tokens(torch.tensor([7, 8, 9]))
    with device.one_thread():
        together = Continuations(generator, embeds).expect([(5,), (6,), (7,), (8,), (9,)])
        alone = [Continuations(generator, embeds).expect([(token,)])[0] for token in (5, 6, 7, 8, 9)]
    assert together == alone
