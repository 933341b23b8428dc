"""bf16 products against fp32 ones."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from model import half
from model.eureka import Eureka
from model.grouped import bucket, grouped_mm
from tests.model.tiny import CONFIG


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.inference_mode()
@pytest.mark.parametrize("length", [1, 7, 8, 9, 50, 203])
def test_a_linear_layer_and_a_convolution_of_any_length_are_near(length: int) -> None:
    torch.manual_seed(0)
    linear, conv = nn.Linear(64, 96), nn.Conv1d(64, 32, 3, padding=1)
    strided, wide = nn.Conv1d(64, 32, 3, stride=2, padding=1), nn.Conv1d(64, 32, 7, padding=3)
    x_BLD = torch.randn(2, length, 64)
    x_BDT = x_BLD.transpose(1, 2)
    for layer, x in ((linear, x_BLD), (conv, x_BDT), (strided, x_BDT), (wide, x_BDT)):
        expected = layer(x)
        replaced = half.Bf16Linear(layer) if isinstance(layer, nn.Linear) else half.Bf16Conv1d(layer)
        found = replaced(x)
        assert found.shape == expected.shape
        assert found.dtype == torch.float32
        assert 0 < relative(found, expected) < 0.01


@torch.inference_mode()
def test_experts_in_bf16_are_near_however_their_rows_are_shared_out() -> None:
    torch.manual_seed(0)
    x_TK, w_EKN = torch.randn(50, 32), torch.randn(4, 32, 16)
    for ends in ([0, 0, 50, 50], [1, 10, 11, 50], [50, 50, 50, 50], [13, 25, 38, 50]):
        ends_E = torch.tensor(ends, dtype=torch.int32)
        found = grouped_mm(x_TK.bfloat16(), w_EKN.bfloat16(), ends_E)
        assert 0 < relative(found, grouped_mm(x_TK, w_EKN, ends_E)) < 0.01


@torch.inference_mode()
def test_a_model_stays_near_itself_and_its_heads_router_and_decoder_stay_fp32() -> None:
    torch.manual_seed(0)
    plain = Eureka(dataclasses.replace(CONFIG, ctc_blocks=1)).eval()
    assert plain.ctc_context is not None
    for block in plain.ctc_context.blocks:
        nn.init.normal_(block.out.weight, std=0.3)  # fresh it is zero
    model = copy.deepcopy(plain)
    half.products(model)
    heard = (model.audio_encoder, model.audio_adapter, model.ctc_context)
    left = [name for part in heard for name, module in part.named_modules() if type(module) is nn.Linear]
    assert left == ["router"]
    assert not any(isinstance(module, half.Bf16Linear) for module in model.decoder.modules())
    mel_BMT, frames_B = torch.randn(1, CONFIG.audio.n_mels, 88), torch.tensor([88])
    found, expected = (m.adapt(m.encode_chunks(mel_BMT, frames_B)) for m in (model, plain))
    assert torch.equal(found.router.chosen_TK, expected.router.chosen_TK)
    assert 0 < relative(found.embeds_BNO, expected.embeds_BNO) < 0.05
    assert 0 < relative(model.ctc_log_probs(found.embeds_BNO), plain.ctc_log_probs(found.embeds_BNO)) < 0.02


@torch.inference_mode()
def test_the_decoder_that_reads_is_near_the_one_that_writes_and_apart_from_it() -> None:
    torch.manual_seed(0)
    writer = Eureka(CONFIG).eval().decoder
    reader = half.twin(writer)
    embeds_BLD = writer.embed_tokens(torch.arange(20)[None] % CONFIG.decoder.vocab)
    assert 0 < relative(reader(embeds_BLD), writer(embeds_BLD)) < 0.05
    assert type(reader.lm_head) is nn.Linear
    assert reader.lm_head.weight is writer.lm_head.weight
    assert reader.model.embed_tokens.weight is writer.model.embed_tokens.weight
    assert not any(isinstance(module, half.Bf16Linear) for module in writer.modules())


def test_lengths_come_in_few_steps_and_none_is_too_short() -> None:
    buckets = [bucket(length) for length in range(1, 3001)]
    assert all(length <= bucket for length, bucket in enumerate(buckets, 1))
    assert all(bucket < 1.26 * length for length, bucket in enumerate(buckets, 1) if length > 64)
    assert len(set(buckets)) < 36


@torch.inference_mode()
def test_a_processor_without_the_instructions_computes_the_same_more_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    linear, x_BLD = nn.Linear(64, 96), torch.randn(1, 9, 64)
    monkeypatch.setattr(half.torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    plain = half.Bf16Linear(linear)
    assert not plain.packs
    assert 0 < relative(plain(x_BLD), linear(x_BLD)) < 0.01


@torch.inference_mode()
def test_an_adapter_of_foreign_code_is_left_alone() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(128, 48)
            self.experts = nn.Parameter(torch.ones(2, 3, 4))

    model = Eureka(CONFIG).eval()
    model.audio_adapter = Foreign()
    half.products(model)
    assert type(model.audio_adapter.gate) is nn.Linear
    assert model.audio_adapter.experts.dtype == torch.float32


def test_twice_is_once_and_a_changed_model_is_not_saved() -> None:
    model = Eureka(CONFIG).eval()
    half.products(model)
    layer = model.audio_encoder.conv1
    half.products(model)
    assert model.audio_encoder.conv1 is layer
    with pytest.raises(RuntimeError, match="cannot be saved"):
        model.state_dict()
