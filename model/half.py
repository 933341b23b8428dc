"""bf16 products on a CPU that has instructions for them, in a model that is fp32 otherwise.

In: a model in fp32. Out: the same model, the products of its linear layers, convolutions and experts in bf16, or a
decoder of this kind beside its own; norms, attention, the router and what becomes a probability (the heads) stay fp32.
Weights of linear layers are packed once for the instructions. Knows no audio and no text.
Invariant: a model that was changed cannot be saved or copied; load another.
Measured on one core (AVX-512 with bf16): the encoder takes 14 ms per second of audio instead of 31, a pass of the
decoder over 16 positions 4.1 ms instead of 6.6; plain bf16 products, packed anew at every call, took 17 and 5.2. int8
(weights per channel, activations per call) was faster still in the encoder, 12 ms, but cost words, 43 wrong of 762
instead of 37; so there is none here.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.adapter import MoEAdapter
from model.grouped import bucket

if TYPE_CHECKING:
    from model.decoder import Qwen3Decoder
    from model.eureka import Eureka


def products(model: Eureka) -> None:
    """Have what hears compute its products in bf16: encoder, our adapter and what stands before the CTC head.

    An adapter of foreign code is left alone: it may look at the types of its weights.
    """
    adapter = model.audio_adapter
    for part in (
        model.audio_encoder,
        adapter if isinstance(adapter, MoEAdapter) else None,
        model.ctc_context,
    ):
        if part is not None:
            _replace(part)
    if isinstance(adapter, MoEAdapter):
        for experts in (adapter.w1, adapter.w2):
            experts.data = experts.data.bfloat16()


def twin(decoder: Qwen3Decoder) -> Qwen3Decoder:
    """A decoder with the same weights and its products in bf16, to read with; embeddings and head are shared.

    The one that writes stays fp32: greedy, the two wrote 63 of 64 texts alike.
    """
    shared: dict[int, object] = {id(parameter): parameter for parameter in decoder.parameters()}
    reader = copy.deepcopy(decoder, shared)
    _replace(reader.model)
    return reader


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if name == "router" or isinstance(child, Bf16Linear | Bf16Conv1d):
            continue
        if isinstance(child, nn.Linear):
            setattr(module, name, Bf16Linear(child))
        elif isinstance(child, nn.Conv1d):
            setattr(module, name, Bf16Conv1d(child))
        else:
            _replace(child)


class Bf16Linear(nn.Module):
    """`y = x·W + b` in bf16 with fp32 sums; fp32 in, fp32 out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().bfloat16()
        self.packs = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        # oneDNN's layout of the weights, where it has one. It is no plain tensor and so no buffer.
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self.packs else weight
        self.bias = None if linear.bias is None else linear.bias.detach().bfloat16()

    def forward(self, x_BLD: Tensor) -> Tensor:
        length = x_BLD.shape[-2]
        padded_BLD = F.pad(x_BLD.bfloat16(), (0, 0, 0, bucket(length) - length))
        if self.packs:
            y_BLD = torch.ops.mkldnn._linear_pointwise(padded_BLD, self.weight, self.bias, "none", [], "")
        else:
            y_BLD = F.linear(padded_BLD, self.weight, self.bias)
        out: Tensor = y_BLD[..., :length, :].to(x_BLD.dtype)
        return out

    def _save_to_state_dict(self, destination: object, prefix: str, keep_vars: bool) -> None:
        raise RuntimeError(
            "a model that computes in bf16 on a CPU cannot be saved: load the checkpoint again"
        )


class Bf16Conv1d(nn.Module):
    """A convolution over time in bf16 with fp32 sums; fp32 in, fp32 out."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv.bfloat16()

    def forward(self, x_BDT: Tensor) -> Tensor:
        length = x_BDT.shape[-1]
        (kernel,), (stride,) = self.conv.kernel_size, self.conv.stride
        margin = int(self.conv.padding[0])
        y_BDT: Tensor = self.conv(F.pad(x_BDT.bfloat16(), (0, bucket(length) - length)))
        return y_BDT[..., : (length + 2 * margin - kernel) // stride + 1].to(x_BDT.dtype)
