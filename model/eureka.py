"""The whole model: Whisper encoder → MoE adapter → Qwen3 decoder, and a CTC head beside the decoder.

In: log-mels and token ids. Out: encoder states, audio embeddings, CTC log-probabilities, input embeddings.
Knows no prompt text and no decoding. Invariant: a clip of n audio tokens gives exactly n audio embeddings, whatever
else is in the batch and whether or not it is padded to 30 s.

Shapes: B batch, M mel bands, T mel frames, L encoder frames (T / 2), D encoder width, N audio tokens (T / 8),
O decoder width, V vocabulary, P prompt length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.adapter import MoEAdapter, RouterStats
from model.config import EurekaConfig
from model.ctc_context import CtcContext
from model.decoder import Qwen3Decoder
from model.encoder import WhisperEncoder
from model.features import CHUNK_FRAMES, FRAMES_PER_TOKEN, SILENCE_VALUE, stack


@dataclass(frozen=True)
class Encoded:
    """Encoder states `[B, L, D]`; row b is real up to `4 · tokens_B[b]`."""

    states_BLD: Tensor
    tokens_B: Tensor


@dataclass(frozen=True)
class Adapted:
    """Audio embeddings `[B, N, O]`; row b is real up to `tokens_B[b]`."""

    embeds_BNO: Tensor
    tokens_B: Tensor
    router: RouterStats

    def valid_BN(self) -> Tensor:
        """True where an embedding is real and not padding."""
        tokens = torch.arange(self.embeds_BNO.shape[1], device=self.embeds_BNO.device)
        return tokens < self.tokens_B[:, None]

    def load_balance_loss(self) -> Tensor:
        """The router's load-balance loss over the real tokens."""
        return self.router.load_balance_loss(self.valid_BN().reshape(-1))


class Eureka(nn.Module):
    def __init__(self, config: EurekaConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = WhisperEncoder(config.audio)
        self.audio_adapter: nn.Module = MoEAdapter(config.adapter, config.audio.d_model)
        self.decoder = Qwen3Decoder(config.decoder)
        width = config.decoder.hidden
        self.ctc_context = CtcContext(width, config.ctc_blocks) if config.ctc and config.ctc_blocks else None
        self.ctc_head = nn.Linear(width, config.decoder.vocab + 1) if config.ctc else None

    @property
    def blank(self) -> int:
        """Index of the CTC blank, the last one."""
        return self.config.decoder.vocab

    def encode(self, mels: Sequence[Tensor]) -> Encoded:
        """Encode clips `[M, T_i]` (T_i a multiple of 8) as one batch, in chunks of 30 s.

        With `pad_to_30s` every chunk is filled up with −1.5 and attended to as a whole, as the release does;
        without, clips are padded to the longest of the batch and the padding is masked.
        """
        chunks = [chunk for mel in mels for chunk in torch.split(mel, CHUNK_FRAMES, dim=1)]
        pieces = iter(self.encode_chunks(*stack(chunks)).states_BLD)
        clips = [
            torch.cat(
                [next(pieces)[: chunk.shape[1] // 2] for chunk in torch.split(mel, CHUNK_FRAMES, dim=1)]
            )
            for mel in mels
        ]
        return join(clips)

    def encode_chunks(self, mel_BMT: Tensor, frames_B: Tensor, frames: int | None = None) -> Encoded:
        """Encode chunks of at most 30 s, row b real up to `frames_B[b]`; padded to `frames`, if given.

        With `frames` the shape of everything depends on B and `frames` alone, for a compiled encoder.
        """
        wanted = CHUNK_FRAMES if self.config.pad_to_30s else frames or mel_BMT.shape[2]
        mel_BMT = F.pad(mel_BMT, (0, wanted - mel_BMT.shape[2]), value=SILENCE_VALUE)
        same_length = frames is None and bool((frames_B == mel_BMT.shape[2]).all())
        lengths_B = None if self.config.pad_to_30s or same_length else frames_B
        return Encoded(self.audio_encoder(mel_BMT, lengths_B), frames_B // FRAMES_PER_TOKEN)

    def adapt(self, encoded: Encoded) -> Adapted:
        """Encoder states → audio embeddings for the decoder. L must be a multiple of 4."""
        embeds_BNO, router = self.audio_adapter(encoded.states_BLD)
        return Adapted(embeds_BNO, encoded.tokens_B, router)

    def ctc_log_probs(self, heard_BNO: Tensor, valid_BN: Tensor | None = None) -> Tensor:
        """Log-probabilities `[B, N, V + 1]` in fp32, blank last. Raises ValueError without a CTC head.

        valid_BN: true where an embedding is real and not padding; None where all are.
        """
        if self.ctc_head is None:
            raise ValueError("this checkpoint has no CTC head")
        if self.ctc_context is not None:
            if valid_BN is None:
                valid_BN = torch.ones(heard_BNO.shape[:2], dtype=torch.bool, device=heard_BNO.device)
            heard_BNO = self.ctc_context(heard_BNO, valid_BN)
        out: Tensor = self.ctc_head(heard_BNO).float().log_softmax(dim=-1)
        return out

    def embed(self, ids_BP: Tensor, audio_BNO: Tensor, tokens_B: Tensor) -> Tensor:
        """Embed prompts `[B, P]`, the i-th `<|audio_pad|>` of row b replaced by `audio_BNO[b, i]`.

        Raises ValueError when a row's placeholders are not as many as its audio tokens.
        """
        embeds_BPO = self.decoder.embed_tokens(ids_BP)
        slot_BP = ids_BP == self.config.tokens.audio_pad
        if not torch.equal(slot_BP.sum(1), tokens_B):
            raise ValueError(f"{slot_BP.sum(1).tolist()} placeholders for {tokens_B.tolist()} audio tokens")
        valid_BN = torch.arange(audio_BNO.shape[1], device=audio_BNO.device) < tokens_B[:, None]
        return embeds_BPO.masked_scatter(slot_BP[:, :, None], audio_BNO[valid_BN].to(embeds_BPO.dtype))


def join(clips: Sequence[Tensor]) -> Encoded:
    """Batch encoder states `[L_i, D]` of single clips (from `encode` or from a file), padded with zeros."""
    longest = max(clip.shape[0] for clip in clips)
    states_BLD = torch.stack([F.pad(clip, (0, 0, 0, longest - clip.shape[0])) for clip in clips])
    per_token = FRAMES_PER_TOKEN // 2  # encoder frames
    return Encoded(
        states_BLD, torch.tensor([clip.shape[0] // per_token for clip in clips], device=states_BLD.device)
    )
