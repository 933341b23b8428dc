"""Several continuations of one beginning in one pass of the decoder.

In: a beginning whose keys and values are known, and a tree of positions that go on after it: each has a parent, which
is another of them or the beginning itself. Out: the decoder's states at every one, and a tree that can grow on.
Knows no prompt and no text. Invariant: a position sees the beginning, its ancestors and itself, and so its state is the
one it would have in a sequence of its own (up to the rounding of a matrix product of another height).

Why: a closed-set question costs one prefill position this way and no pass of its own, and texts that share their first
words are read together (as in speculative decoding with token trees, arXiv 2305.09781).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cache import Prefix
from model.decoder import Qwen3Decoder

ROOT = -1  # the parent of a position that follows the beginning directly


@dataclass
class Tree:
    """Positions after `past` that have been read: who descends from whom, and their keys and values."""

    past: Prefix
    sees_MM: Tensor  # each its ancestors and itself
    depths: list[int]
    read: Prefix

    @classmethod
    def after(cls, past: Prefix) -> Tree:
        """Nothing read yet."""
        return cls(past, torch.zeros(0, 0, dtype=torch.bool), [], past.at(slice(0, 0)))

    def keep(self, indices: Sequence[int]) -> Tree:
        """Only these positions, in this order; with each its ancestors must be kept."""
        picked = torch.tensor(list(indices), dtype=torch.long)
        sees_MM = self.sees_MM[picked][:, picked]
        return Tree(self.past, sees_MM, [self.depths[i] for i in indices], self.read.at(indices))

    def settle(self, path: Sequence[int], rest: Sequence[int]) -> Tree:
        """The positions of `path`, from the root downwards, become part of the beginning; `rest` descend from them."""
        kept = self.keep(rest)
        past = self.past.then(self.read.at(path))
        return Tree(past, kept.sees_MM, [depth - len(path) for depth in kept.depths], kept.read)


def grow(decoder: Qwen3Decoder, embeds_LD: Tensor, parents: Sequence[int], tree: Tree) -> tuple[Tensor, Tree]:
    """States `[L, D]` of L more positions, and the tree with them; every parent comes before its children.

    Parents count the positions of `tree` first, then the new ones.
    """
    old, new = len(tree.depths), len(parents)
    sees_NN = torch.zeros(old + new, old + new, dtype=torch.bool)
    sees_NN[:old, :old] = tree.sees_MM
    depths = list(tree.depths)
    for index, parent in enumerate(parents, old):
        depths.append(0 if parent == ROOT else depths[parent] + 1)
        if parent != ROOT:
            sees_NN[index] = sees_NN[parent]
        sees_NN[index, index] = True
    device = embeds_LD.device
    past_LS = torch.ones(new, tree.past.length, dtype=torch.bool)
    mask_LS = torch.cat([past_LS, sees_NN[old:]], dim=1).to(device)
    positions_L = torch.tensor(depths[old:], device=device) + tree.past.length
    before = tree.past.then(tree.read) if old else tree.past
    states_LD, fresh = decoder.extend(embeds_LD, positions_L, mask_LS, before)
    return states_LD, Tree(tree.past, sees_NN, depths, tree.read.then(fresh) if old else fresh)


def side_by_side(lengths: Iterable[int]) -> list[int]:
    """Parents of sequences that lie one after the other and share nothing but the beginning."""
    parents: list[int] = []
    for length in lengths:
        start = len(parents)
        parents += [ROOT if i == 0 else start + i - 1 for i in range(length)]
    return parents
