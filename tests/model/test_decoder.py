"""Our decoder against transformers' Qwen3ForCausalLM on the same weights; cached = uncached = padded = alone."""

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from model.cache import KeyValueCache
from model.config import DecoderConfig
from model.decoder import Qwen3Decoder

CONFIG = DecoderConfig(hidden=48, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=64, vocab=101)


def decoder(tie: bool = True) -> Qwen3Decoder:
    torch.manual_seed(0)
    model = Qwen3Decoder(DecoderConfig(**{**CONFIG.__dict__, "tie_embeddings": tie})).eval()
    torch.nn.init.normal_(model.model.embed_tokens.weight)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model


@pytest.mark.parametrize("tie", [True, False])
def test_equals_transformers(tie: bool) -> None:
    ours = decoder(tie)
    reference = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=101,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            intermediate_size=64,
            rms_norm_eps=1e-6,
            tie_word_embeddings=tie,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )
    )
    reference.train(False)
    reference.load_state_dict(ours.state_dict(), strict=True)
    ids = torch.randint(0, 101, (2, 40))
    with torch.inference_mode():
        logits = ours(ours.embed_tokens(ids))
        torch.testing.assert_close(logits, reference(ids).logits, atol=1e-4, rtol=1e-4)


def test_cached_equals_uncached_with_rows_at_different_positions() -> None:
    model = decoder()
    lengths = [5, 9, 3]
    rows = [torch.randint(0, 101, (length + 4,)) for length in lengths]
    cache = KeyValueCache(CONFIG, slots=4, capacity=16)
    cache.keys.fill_(7.0)  # what an earlier sequence left behind
    cache.values.fill_(7.0)
    slots = torch.tensor([2, 0, 3])
    with torch.inference_mode():
        expected = [model(model.embed_tokens(row[None]))[0] for row in rows]
        prompts = torch.zeros(3, 9, dtype=torch.long)
        for i, length in enumerate(lengths):
            prompts[i, :length] = rows[i][:length]  # padded on the right
        logits = model(model.embed_tokens(prompts), None, cache, slots, keys=12)
        for i, length in enumerate(lengths):
            torch.testing.assert_close(logits[i, :length], expected[i][:length], atol=1e-5, rtol=1e-4)
        for step in range(4):
            tokens = torch.stack([rows[i][length + step] for i, length in enumerate(lengths)])[:, None]
            positions = torch.tensor([[length + step] for length in lengths])
            logits = model(model.embed_tokens(tokens), positions, cache, slots)
            for i, length in enumerate(lengths):
                torch.testing.assert_close(logits[i, 0], expected[i][length + step], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batch_equals_singles(side: str) -> None:
    model = decoder()
    rows = [torch.randint(0, 101, (length,)) for length in (4, 11, 7)]
    ids = torch.zeros(3, 11, dtype=torch.long)
    mask = torch.zeros(3, 11, dtype=torch.bool)
    positions = torch.zeros(3, 11, dtype=torch.long)
    for i, row in enumerate(rows):
        at = slice(0, len(row)) if side == "right" else slice(11 - len(row), 11)
        ids[i, at], mask[i, at], positions[i, at] = row, True, torch.arange(len(row))
    with torch.inference_mode():
        logits = model(model.embed_tokens(ids), positions, key_mask_BL=mask)
        for i, row in enumerate(rows):
            alone = model(model.embed_tokens(row[None]))[0]
            torch.testing.assert_close(logits[i][mask[i]], alone, atol=1e-5, rtol=1e-4)
