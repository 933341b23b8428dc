"""One grouped matrix product for the experts: rows sorted by expert, one weight matrix per expert.

In: `x [T, K]` sorted by group, `w [E, K, N]`, `ends [E]` (int32, cumulative row counts). Out: `[T, N]`.
Does not know what a group is. Invariant: the shape of the result depends on shapes only, never on `ends`, so a
compiled graph holds it without a break.

On a GPU in bfloat16 this is `torch.nn.functional.grouped_mm` itself. Elsewhere the same function runs inside a
custom operator: compiled fp32 `grouped_mm` is refused by the CPU's compiler ("Expected inputs of BF16 type"), while
eager fp32 is fine, and an operator is opaque to the compiler. Rows start on 16-byte boundaries when K and N are
multiples of 4 in fp32 or of 8 in bf16, which `AdapterConfig`s of this project keep. On a CPU in bf16 every group is
filled up to one of a few heights: a kernel is made and kept for each height there is, and groups have any.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# The least height, and heights per octave: few shapes to make kernels for (`model.device`).
LEAST, STEPS = 8, 4


def grouped_mm(x_TK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
    """`out[t] = x[t] @ w[e]` for the group e that row t lies in. Differentiable in x and w."""
    if x_TK.device.type == "cuda" and x_TK.dtype == torch.bfloat16:
        return F.grouped_mm(x_TK, w_EKN, offs=ends_E)
    out: Tensor = _grouped_mm(x_TK, w_EKN, ends_E)
    return out


@torch.library.custom_op("eureka::grouped_mm", mutates_args=())
def _grouped_mm(x_TK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
    if x_TK.device.type == "cpu" and x_TK.dtype == torch.bfloat16:
        return _filled_up(x_TK, w_EKN, ends_E.tolist())
    return F.grouped_mm(x_TK.contiguous(), w_EKN.contiguous(), offs=ends_E)


def _filled_up(x_TK: Tensor, w_EKN: Tensor, ends: list[int]) -> Tensor:
    out_TN = x_TK.new_empty(x_TK.shape[0], w_EKN.shape[2])
    start = 0
    for w_KN, end in zip(w_EKN, ends, strict=True):
        if (rows := end - start) > 0:
            x_RK = F.pad(x_TK[start:end], (0, 0, 0, bucket(rows) - rows))
            out_TN[start:end] = (x_RK @ w_KN)[:rows]
        start = end
    return out_TN


@_grouped_mm.register_fake
def _(x_TK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
    return x_TK.new_empty(x_TK.shape[0], w_EKN.shape[2])


@torch.library.custom_op("eureka::grouped_mm_backward", mutates_args=())
def _grouped_mm_backward(
    grad_TN: Tensor, x_TK: Tensor, w_EKN: Tensor, ends_E: Tensor
) -> tuple[Tensor, Tensor]:
    grad_TN = grad_TN.contiguous()
    grad_x_TK = F.grouped_mm(grad_TN, w_EKN.transpose(1, 2).contiguous(), offs=ends_E)
    # Per group x^T · grad. A loop, because the grouped form of it wants aligned row counts, which no router gives.
    grad_w_EKN = torch.zeros_like(w_EKN)
    start = 0
    for expert, end in enumerate(ends_E.tolist()):
        torch.mm(x_TK[start:end].t(), grad_TN[start:end], out=grad_w_EKN[expert])
        start = end
    return grad_x_TK, grad_w_EKN


@_grouped_mm_backward.register_fake
def _(grad_TN: Tensor, x_TK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x_TK), torch.empty_like(w_EKN)


def _save(
    ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor
) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, grad_TN: Tensor) -> tuple[Tensor, Tensor, None]:
    x_TK, w_EKN, ends_E = ctx.saved_tensors  # type: ignore[attr-defined]
    grad_x_TK, grad_w_EKN = _grouped_mm_backward(grad_TN, x_TK, w_EKN, ends_E)
    return grad_x_TK, grad_w_EKN, None


_grouped_mm.register_autograd(_backward, setup_context=_save)


def bucket(height: int) -> int:
    """The least height that is computed and not shorter than this one, which is at least 1."""
    step = max(LEAST, (1 << (height.bit_length() - 1)) // STEPS)
    return -(-height // step) * step
