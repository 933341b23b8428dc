"""The key/value cache of the decoder: fixed slots of a fixed length.

In: new keys and values with the position of each. Out: all keys and values of the slots in use.
Does not know what a sequence is or whether a slot is taken.
Invariant: the entry for position p lies at index p. A query at position p sees the indices ≤ p and nothing else, so
what a finished or padded sequence left behind is never read: every index ≤ p has been written by the sequence itself.

Shapes: S slots, G key/value heads, C capacity in positions, H head width, B rows, L new positions per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import DecoderConfig


class KeyValueCache:
    def __init__(
        self,
        config: DecoderConfig,
        slots: int,
        capacity: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (config.layers, slots, config.kv_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.slots = slots

    def write(self, layer: int, rows_B: Tensor, positions_BL: Tensor, k_BGLH: Tensor, v_BGLH: Tensor) -> None:
        """Store keys and values `[B, G, L, H]` at `positions_BL` of the slots `rows_B`."""
        at = (rows_B[:, None], slice(None), positions_BL)
        self.keys[layer][at] = k_BGLH.transpose(1, 2)
        self.values[layer][at] = v_BGLH.transpose(1, 2)

    def read(self, layer: int, rows_B: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values `[B, G, length, H]` of the slots `rows_B`; None means all slots, without a copy."""
        keys, values = self.keys[layer, :, :, :length], self.values[layer, :, :, :length]
        if rows_B is None:
            return keys, values
        return keys[rows_B], values[rows_B]

    def restore(self, row: int, prefix: Prefix) -> None:
        """Begin a slot with a copied prefix."""
        self.keys[:, row, :, : prefix.length] = prefix.keys
        self.values[:, row, :, : prefix.length] = prefix.values


@dataclass(frozen=True)
class Prefix:
    """Keys and values `[layers, G, length, H]` of a beginning that several prompts share."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        return self.keys.shape[2]

    def then(self, more: Prefix) -> Prefix:
        """This beginning and what follows it."""
        keys = torch.cat([self.keys, more.keys], dim=2)
        return Prefix(keys, torch.cat([self.values, more.values], dim=2))

    def at(self, positions: Sequence[int] | slice) -> Prefix:
        """Some of its positions."""
        picked = positions if isinstance(positions, slice) else list(positions)
        return Prefix(self.keys[:, :, picked], self.values[:, :, picked])
