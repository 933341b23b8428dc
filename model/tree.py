"""Several continuations of one beginning in one pass of the decoder.

In: a beginning whose keys and values are known, and a tree of positions that go on after it: each has a parent, which
is another of them or the beginning itself. Out: the decoder's states at every one, and their keys and values.
Knows no prompt and no text. Invariant: a position sees the beginning, its ancestors and itself, and so its state is the
one it would have in a sequence of its own (up to the rounding of a matrix product of another height).

Why: a closed-set question costs one prefill position this way and no pass of its own, and texts that share their first
words are read together (as in speculative decoding with token trees, arXiv 2305.09781).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from model.cache import Prefix
from model.decoder import Qwen3Decoder

ROOT = -1  # the parent of a position that follows the beginning directly


def grow(
    decoder: Qwen3Decoder, embeds_LD: Tensor, parents: Sequence[int], past: Prefix
) -> tuple[Tensor, Prefix]:
    """States `[L, D]`, and keys and values, of L positions after `past`; every parent comes before its children."""
    depths: list[int] = []
    sees_LL = torch.eye(len(parents), dtype=torch.bool)
    for index, parent in enumerate(parents):
        depths.append(0 if parent == ROOT else depths[parent] + 1)
        if parent != ROOT:
            sees_LL[index] |= sees_LL[parent]
    device = embeds_LD.device
    past_LS = torch.ones(len(parents), past.length, dtype=torch.bool)
    mask_LS = torch.cat([past_LS, sees_LL], dim=1).to(device)
    positions_L = torch.tensor(depths, device=device) + past.length
    return decoder.extend(embeds_LD, positions_L, mask_LS, past)


def side_by_side(lengths: Iterable[int]) -> list[int]:
    """Parents of sequences that lie one after the other and share nothing but the beginning."""
    parents: list[int] = []
    for length in lengths:
        start = len(parents)
        parents += [ROOT if i == 0 else start + i - 1 for i in range(length)]
    return parents
