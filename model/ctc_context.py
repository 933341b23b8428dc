"""What stands between the adapter and the CTC head: a look at the neighbouring audio tokens.

In: audio embeddings `[B, N, O]` and which are real. Out: as many, for the CTC head alone; the decoder gets the
adapter's own. Why: the adapter sees one token (80 ms) at a time, and a CTC path must agree on which of two
neighbours says a word piece; without context both do ("connectct") or neither.
Invariant: what comes out for a clip does not depend on padding or on the other clips of the batch; fresh, it is the
identity.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 7  # audio tokens: 0.24 s to each side per block


class ContextBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_BNO: Tensor, valid_BN1: Tensor) -> Tensor:
        y_BNO = (self.norm(x_BNO) * valid_BN1).transpose(1, 2)
        out: Tensor = x_BNO + self.out(F.silu(self.conv(y_BNO)).transpose(1, 2))
        return out


class CtcContext(nn.Module):
    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([ContextBlock(width) for _ in range(blocks)])

    def forward(self, x_BNO: Tensor, valid_BN: Tensor) -> Tensor:
        valid_BN1 = valid_BN[:, :, None].to(x_BNO.dtype)
        for block in self.blocks:
            x_BNO = block(x_BNO, valid_BN1)
        return x_BNO
