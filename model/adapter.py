"""The sparse mixture-of-experts adapter: four encoder frames in, one audio token for the decoder out.

In: encoder states `[B, L, D]`, L a multiple of 4. Out: `[B, L / 4, out]` and what the router did.
`y = LN(W_P · (Σ_{top-k} G(x)_i E_i(x) + shared(x)))`, `G = softmax over the top-k of x·W_g`, experts are small FFNs
with SiLU (arXiv 2601.02967). Knows no text and no encoder.
Invariant: a token's result depends on that token alone; both paths ("grouped" and "loop") are the same function.

Shapes: B batch, N audio tokens per clip, T = B·N tokens, D model width, X = 4·D, E experts, K experts per token,
H expert hidden, O expert out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import AdapterConfig
from model.grouped import grouped_mm

Path = Literal["grouped", "loop"]


@dataclass(frozen=True)
class RouterStats:
    """Router probabilities `[T, E]` (over all experts, fp32) and the chosen experts `[T, K]`, per token."""

    probabilities_TE: Tensor
    chosen_TK: Tensor

    def load_balance_loss(self, valid_T: Tensor | None = None) -> Tensor:
        """`|E| Σ_e P̄_e f̄_e` (arXiv 2101.03961, equation 4): 1 when balanced, |E| when one expert takes all.

        Padding is masked out.
        """
        tokens, experts = self.probabilities_TE.shape
        weight_T = (
            torch.ones(tokens, device=self.probabilities_TE.device) if valid_T is None else valid_T.float()
        )
        total = weight_T.sum().clamp(min=1.0)
        mean_E = (self.probabilities_TE * weight_T[:, None]).sum(0) / total
        picks_TE = F.one_hot(self.chosen_TK, experts).sum(1).to(mean_E.dtype)
        share_E = (picks_TE * weight_T[:, None]).sum(0) / (total * self.chosen_TK.shape[1])
        return experts * (mean_E * share_E).sum()


class SharedExpert(nn.Module):
    """All shared experts as one: a sum of FFNs is an FFN over the concatenated hidden units."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)))
        return out


class MoEAdapter(nn.Module):
    def __init__(self, config: AdapterConfig, d_model: int) -> None:
        super().__init__()
        self.config = config
        self.path: Path = "grouped"
        width = config.frames_per_token * d_model
        self.router = nn.Linear(width, config.experts, bias=False)
        self.w1 = nn.Parameter(torch.empty(config.experts, width, config.hidden))
        self.w2 = nn.Parameter(torch.empty(config.experts, config.hidden, config.expert_out))
        for weight in (self.w1, self.w2):
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
        self.shared = (
            SharedExpert(width, config.shared_experts * config.hidden, config.expert_out)
            if config.shared_experts
            else None
        )
        self.proj = nn.Linear(config.expert_out, config.out, bias=False)
        self.norm = nn.LayerNorm(config.out)

    def forward(self, states_BLD: Tensor) -> tuple[Tensor, RouterStats]:
        """`[B, L, D]`, L a multiple of `frames_per_token` → (`[B, L / 4, out]`, router statistics)."""
        batch, length, width = states_BLD.shape
        group = self.config.frames_per_token
        x_TX = states_BLD.reshape(batch * (length // group), group * width)
        # In fp32 whatever the model's type: near-ties between experts must not depend on rounding to bf16.
        logits_TE = F.linear(x_TX.float(), self.router.weight.float())
        top_TK, chosen_TK = logits_TE.topk(self.config.top_k, dim=-1)
        gates_TK = top_TK.softmax(dim=-1).to(x_TX.dtype)
        routed = self._grouped if self.path == "grouped" else self._loop
        y_TO = routed(x_TX, gates_TK, chosen_TK)
        if self.shared is not None:
            y_TO = y_TO + self.shared(x_TX)
        out_BNO = self.norm(self.proj(y_TO)).view(batch, length // group, self.config.out)
        return out_BNO, RouterStats(logits_TE.softmax(dim=-1), chosen_TK)

    def _grouped(self, x_TX: Tensor, gates_TK: Tensor, chosen_TK: Tensor) -> Tensor:
        """Sort the T·K (token, expert) pairs by expert, one grouped product per layer, sort back."""
        tokens, k = chosen_TK.shape
        flat = chosen_TK.reshape(-1)
        order = flat.argsort(stable=True)
        counts_E = F.one_hot(flat, self.config.experts).sum(0)
        ends_E = counts_E.cumsum(0).to(torch.int32)
        # The experts may be of another type than the rest (`model.half`).
        sorted_x = x_TX[order // k].to(self.w1.dtype)
        hidden = F.silu(grouped_mm(sorted_x, self.w1, ends_E))
        sorted_y = grouped_mm(hidden, self.w2, ends_E).to(x_TX.dtype)
        inverse = order.argsort()
        y_TKO = sorted_y[inverse].view(tokens, k, self.config.expert_out)
        return (y_TKO * gates_TK[:, :, None]).sum(1)

    def _loop(self, x_TX: Tensor, gates_TK: Tensor, chosen_TK: Tensor) -> Tensor:
        """The oracle: one expert after the other over the tokens that chose it."""
        y_TO = x_TX.new_zeros(x_TX.shape[0], self.config.expert_out)
        # Unbound, the experts' gradients are put together once; indexed, each would be a tensor of all experts.
        for expert, (w1, w2) in enumerate(zip(self.w1.unbind(0), self.w2.unbind(0), strict=True)):
            token, slot = (chosen_TK == expert).nonzero(as_tuple=True)
            out = (F.silu(x_TX[token].to(w1.dtype) @ w1) @ w2).to(x_TX.dtype)
            y_TO = y_TO.index_add(0, token, out * gates_TK[token, slot, None])
        return y_TO
