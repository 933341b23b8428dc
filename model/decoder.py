"""Qwen3 decoder: embeddings in, logits over the vocabulary out.

In: embeddings `[B, L, D]` and the position of each. Out: logits `[B, L, V]`. With a cache, keys and values of earlier
positions come from there. Does not know what is text and what is audio, nor how a token is chosen.
Invariant: the same sequence gives the same logits cached or not, left- or right-padded or alone, in a row of its own
or as a branch of a tree.
State-dict keys are those of transformers' Qwen3ForCausalLM (`model.layers.0…`, `lm_head.weight`).

Shapes: B batch, L new positions, S key positions, D width, Q query heads, G key/value heads, H head width,
V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KeyValueCache, Prefix
from model.config import DecoderConfig


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        self.q_proj = nn.Linear(config.hidden, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.v_proj = nn.Linear(config.hidden, config.kv_heads * config.head_dim, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.hidden, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_eps)

    def forward(self, x_BLD: Tensor, step: Step) -> Tensor:
        batch, length, _ = x_BLD.shape
        width = self.config.head_dim
        q_BQLH = self.q_norm(self.q_proj(x_BLD).view(batch, length, -1, width)).transpose(1, 2)
        k_BGLH = self.k_norm(self.k_proj(x_BLD).view(batch, length, -1, width)).transpose(1, 2)
        v_BGLH = self.v_proj(x_BLD).view(batch, length, -1, width).transpose(1, 2)
        q_BQLH, k_BGLH = rotate(q_BQLH, step), rotate(k_BGLH, step)
        k_BGSH, v_BGSH = step.remember(self.layer, k_BGLH, v_BGLH)
        y_BQLH = F.scaled_dot_product_attention(
            q_BQLH,
            k_BGSH,
            v_BGSH,
            attn_mask=step.mask_B1LS,
            is_causal=step.mask_B1LS is None,
            enable_gqa=True,
        )
        out: Tensor = self.o_proj(y_BQLH.transpose(1, 2).reshape(batch, length, -1))
        return out


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.hidden, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class DecoderLayer(nn.Module):
    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden, config.rms_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.rms_eps)

    def forward(self, x_BLD: Tensor, step: Step) -> Tensor:
        x_BLD = x_BLD + self.self_attn(self.input_layernorm(x_BLD), step)
        out: Tensor = x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))
        return out


class Step:
    """What every layer of one forward pass shares: rotations, mask, and where earlier keys and values are."""

    def __init__(
        self,
        config: DecoderConfig,
        x_BLD: Tensor,
        positions_BL: Tensor,
        mask_B1LS: Tensor | None = None,
        cache: KeyValueCache | None = None,
        rows_B: Tensor | None = None,
        keys: int = 0,
        past: Prefix | None = None,
    ) -> None:
        self.positions_BL = positions_BL
        self.mask_B1LS = mask_B1LS
        self.cache = cache
        self.rows_B = rows_B
        self.keys = keys
        self.past = past
        self.new: list[tuple[Tensor, Tensor]] = []  # keys and values of this pass, per layer, without a cache
        half = torch.arange(0, config.head_dim, 2, device=x_BLD.device, dtype=torch.float32)
        angles_BLH = positions_BL[:, :, None].float() * config.rope_theta ** (-half / config.head_dim)
        angles_BLH = torch.cat([angles_BLH, angles_BLH], dim=-1)
        self.cos_B1LH = angles_BLH.cos().to(x_BLD.dtype)[:, None]
        self.sin_B1LH = angles_BLH.sin().to(x_BLD.dtype)[:, None]

    def remember(self, layer: int, k_BGLH: Tensor, v_BGLH: Tensor) -> tuple[Tensor, Tensor]:
        """Keep a layer's new keys and values; all that its queries may look at."""
        if self.cache is not None:
            slots = self.cache.slots
            rows_B = torch.arange(slots, device=k_BGLH.device) if self.rows_B is None else self.rows_B
            self.cache.write(layer, rows_B, self.positions_BL, k_BGLH, v_BGLH)
            return self.cache.read(layer, self.rows_B, self.keys)
        self.new.append((k_BGLH, v_BGLH))
        if self.past is None:
            return k_BGLH, v_BGLH
        before = self.past.keys[layer][None], self.past.values[layer][None]
        return torch.cat([before[0], k_BGLH], dim=2), torch.cat([before[1], v_BGLH], dim=2)


def rotate(x_BQLH: Tensor, step: Step) -> Tensor:
    """Rotary position embedding over the two halves of each head (RoFormer, as Qwen3 pairs them)."""
    first, second = x_BQLH.chunk(2, dim=-1)
    return x_BQLH * step.cos_B1LH + torch.cat([-second, first], dim=-1) * step.sin_B1LH


class Qwen3Model(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab, config.hidden)
        self.layers = nn.ModuleList([DecoderLayer(config, layer) for layer in range(config.layers)])
        self.norm = RMSNorm(config.hidden, config.rms_eps)


class Qwen3Decoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Qwen3Model(config)
        self.lm_head = nn.Linear(config.hidden, config.vocab, bias=False)
        nn.init.normal_(self.model.embed_tokens.weight, std=0.02)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def embed_tokens(self, ids_BL: Tensor) -> Tensor:
        """Token ids → embeddings `[B, L, D]`."""
        out: Tensor = self.model.embed_tokens(ids_BL)
        return out

    def forward(
        self,
        embeds_BLD: Tensor,
        positions_BL: Tensor | None = None,
        cache: KeyValueCache | None = None,
        rows_B: Tensor | None = None,
        keys: int | None = None,
        key_mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Logits `[B, L, V]` for every position; see `hidden` for the arguments."""
        hidden_BLD = self.hidden(embeds_BLD, positions_BL, cache, rows_B, keys, key_mask_BL)
        out: Tensor = self.lm_head(hidden_BLD)
        return out

    def hidden(
        self,
        embeds_BLD: Tensor,
        positions_BL: Tensor | None = None,
        cache: KeyValueCache | None = None,
        rows_B: Tensor | None = None,
        keys: int | None = None,
        key_mask_BL: Tensor | None = None,
    ) -> Tensor:
        """The last layer's states `[B, L, D]` after its norm; `lm_head` makes logits of any of them.

        positions_BL: position of each embedding in its own sequence; default 0 … L−1 in every row.
        cache, rows_B: read and write these slots (default: row b is slot b, of all slots).
        keys: with a cache, only the first `keys` indices are read (more than the largest position).
        key_mask_BL: without a cache, False where a row is padding. Rows padded on the right need none.
        """
        batch, length, _ = embeds_BLD.shape
        if positions_BL is None:
            positions_BL = torch.arange(length, device=embeds_BLD.device).expand(batch, length)
        mask_B1LS = None
        if cache is not None:
            keys = cache.capacity if keys is None else keys
            index_S = torch.arange(keys, device=embeds_BLD.device)
            mask_B1LS = (index_S <= positions_BL[:, :, None])[:, None]
        elif key_mask_BL is not None:
            causal_LL = torch.ones(length, length, dtype=torch.bool, device=embeds_BLD.device).tril()
            # A padded query sees itself, so that its row of the softmax is not empty (and not NaN).
            itself_LL = torch.eye(length, dtype=torch.bool, device=embeds_BLD.device)
            mask_B1LS = (causal_LL & key_mask_BL.bool()[:, None, :] | itself_LL)[:, None]
        step = Step(self.config, embeds_BLD, positions_BL, mask_B1LS, cache, rows_B, keys or 0)
        return self._through(embeds_BLD, step)

    def extend(
        self, embeds_LD: Tensor, positions_L: Tensor, mask_LS: Tensor | None, past: Prefix | None
    ) -> tuple[Tensor, Prefix]:
        """One sequence, or a tree of them, that goes on after `past`: states `[L, D]`, keys and values of the L alone.

        mask_LS: what each of the L sees of `past` (S − L positions) and of the L; None, only without `past`: causal.
        """
        step = Step(
            self.config,
            embeds_LD[None],
            positions_L[None],
            None if mask_LS is None else mask_LS[None, None],
            past=past,
        )
        states_LD = self._through(embeds_LD[None], step)[0]
        keys, values = zip(*step.new, strict=True)
        return states_LD, Prefix(torch.cat(keys), torch.cat(values))

    def _through(self, x_BLD: Tensor, step: Step) -> Tensor:
        for layer in self.model.layers:
            x_BLD = layer(x_BLD, step)
        out: Tensor = self.model.norm(x_BLD)
        return out
