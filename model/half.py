"""bf16 products on a CPU that has instructions for them, in a model that is fp32 otherwise.

In: a model in fp32. Out: the same model, the products of its linear layers, convolutions and experts in bf16, or a
decoder of this kind beside its own; sums, norms, attention, the router and what becomes a probability (the heads) stay
fp32. Weights are packed once for the instructions. Knows no audio and no text.
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

if TYPE_CHECKING:
    from model.decoder import Qwen3Decoder
    from model.eureka import Eureka

LEAST, STEPS = (
    8,
    4,
)  # the least length, and lengths per octave: few shapes to make kernels for (`model.device`)


def products(model: Eureka) -> None:
    """Have what hears compute its products in bf16: encoder, adapter and what stands before the CTC head."""
    for part in (model.audio_encoder, model.audio_adapter, model.ctc_context):
        if part is not None:
            _replace(part)


def twin(decoder: Qwen3Decoder) -> Qwen3Decoder:
    """A decoder with the same weights and its products in bf16, to read with.

    The one that writes stays fp32: greedy, the two wrote 63 of 64 texts alike.
    """
    reader = copy.deepcopy(decoder)
    _replace(reader.model)
    return reader


def _replace(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if name == "router":
            continue
        if isinstance(child, nn.Linear):
            setattr(module, name, Bf16Linear(child))
        elif isinstance(child, nn.Conv1d):
            setattr(module, name, Bf16Conv1d(child))
        else:
            _replace(child)
    for parameter in module.parameters(recurse=False):
        if parameter.dim() == 3:  # the experts
            parameter.data = parameter.data.bfloat16()


class Bf16Linear(nn.Module):
    """`y = x·W + b` in bf16 with fp32 sums; fp32 in, fp32 out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # oneDNN's layout of the weights. It is no plain tensor and so no buffer.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16(), None)
        self.bias = None if linear.bias is None else linear.bias.detach().bfloat16()

    def forward(self, x_BLD: Tensor) -> Tensor:
        length = x_BLD.shape[-2]
        padded_BLD = F.pad(x_BLD.bfloat16(), (0, 0, 0, bucket(length) - length))
        y_BLD: Tensor = torch.ops.mkldnn._linear_pointwise(padded_BLD, self.packed, self.bias, "none", [], "")
        return y_BLD[..., :length, :].to(x_BLD.dtype)


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


def bucket(length: int) -> int:
    """The least length that is computed and not shorter; on average 8 % more."""
    step = max(LEAST, (1 << (length.bit_length() - 1)) // STEPS)
    return -(-length // step) * step
