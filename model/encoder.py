"""Whisper's audio encoder: log-mel in, one vector per 20 ms out.

In: `[B, n_mels, T]` and each clip's length in mel frames. Out: `[B, T / 2, d_model]`.
Does not know of audio tokens, of text or of chunks longer than `positions` frames (`model.eureka` splits those).
Invariant: without padding to 30 s a clip's result does not depend on the other clips of its batch: frames past
its end are zero for the convolution (as at the edge of a clip alone) and are never attended to.
State-dict keys are those of transformers' WhisperEncoder.

Shapes: B batch, M mel bands, T mel frames, L encoder frames, D model width, N heads, H head width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import AudioConfig


class SelfAttention(nn.Module):
    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        batch, length, width = x_BLD.shape
        split = (batch, length, self.heads, width // self.heads)
        q_BNLH = self.q_proj(x_BLD).view(split).transpose(1, 2)
        k_BNLH = self.k_proj(x_BLD).view(split).transpose(1, 2)
        v_BNLH = self.v_proj(x_BLD).view(split).transpose(1, 2)
        y_BNLH = F.scaled_dot_product_attention(q_BNLH, k_BNLH, v_BNLH, attn_mask=mask_B11L)
        out: Tensor = self.out_proj(y_BNLH.transpose(1, 2).reshape(batch, length, width))
        return out


class EncoderLayer(nn.Module):
    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.fc1 = nn.Linear(config.d_model, config.ffn)
        self.fc2 = nn.Linear(config.ffn, config.d_model)
        self.final_layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor | None) -> Tensor:
        x_BLD = x_BLD + self.self_attn(self.self_attn_layer_norm(x_BLD), mask_B11L)
        out: Tensor = x_BLD + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x_BLD))))
        return out


class WhisperEncoder(nn.Module):
    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.n_mels, config.d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.d_model, config.d_model, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.positions, config.d_model)
        self.embed_positions.requires_grad_(False)  # sinusoids, never trained
        self.layers = nn.ModuleList([EncoderLayer(config) for _ in range(config.layers)])
        self.layer_norm = nn.LayerNorm(config.d_model)

    def forward(self, mel_BMT: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Encode `[B, M, T]`, T even and at most 2 · positions, to `[B, T / 2, D]`.

        `lengths_B` (mel frames, even) masks what is past each clip's end; None attends everywhere, which is
        right for one clip alone and for clips padded to 30 s, where the release uses no mask.
        """
        inside_BL = None if lengths_B is None else self.inside(mel_BMT.shape[2], lengths_B)
        return self.above(self.below(mel_BMT, inside_BL, 0), inside_BL, 0)

    @staticmethod
    def inside(frames: int, lengths_B: Tensor) -> Tensor:
        """`[B, L]`, L = frames / 2: true where a clip of `lengths_B` mel frames is real."""
        return torch.arange(0, frames, 2, device=lengths_B.device) < lengths_B[:, None]

    def below(self, mel_BMT: Tensor, inside_BL: Tensor | None, top: int) -> Tensor:
        """Convolutions and all layers but the last `top`: `[B, M, T]` → `[B, L, D]`. ValueError for a bad T."""
        frames = mel_BMT.shape[2]
        if frames % 2 or frames > 2 * self.config.positions:
            raise ValueError(
                f"{frames} mel frames: an even number up to {2 * self.config.positions} expected"
            )
        if inside_BL is not None:
            mel_BMT = mel_BMT * inside_BL.repeat_interleave(2, dim=1)[:, None, :]
        x_BDT = F.gelu(self.conv1(mel_BMT))
        x_BDL = F.gelu(self.conv2(x_BDT))
        x_BLD = x_BDL.transpose(1, 2) + self.embed_positions.weight[: frames // 2]
        return self._through(x_BLD, inside_BL, 0, len(self.layers) - top)

    def above(self, x_BLD: Tensor, inside_BL: Tensor | None, top: int) -> Tensor:
        """The last `top` layers and the final norm, on what `below` returned."""
        x_BLD = self._through(x_BLD, inside_BL, len(self.layers) - top, len(self.layers))
        out: Tensor = self.layer_norm(x_BLD)
        return out

    def _through(self, x_BLD: Tensor, inside_BL: Tensor | None, first: int, end: int) -> Tensor:
        mask_B11L = None if inside_BL is None else inside_BL[:, None, None, :]
        for layer in self.layers[first:end]:
            x_BLD = layer(x_BLD, mask_B11L)
        return x_BLD
