"""The authors' way of answering: one request at a time, padded to 30 s, `transformers` for encoder and decoder.

In: a loaded checkpoint. Out: texts as token ids. Knows nothing of slots, caches or batches of ours: what we are
measured against and held equal to. The adapter is ours with its plain loop over the experts (the release's is remote
code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from model import prompts
from model.checkpoint import Loaded
from model.config import AudioConfig, DecoderConfig
from model.features import CHUNK_FRAMES, SILENCE_VALUE, log_mel, n_audio_tokens

NEAR_TIE = 1e-3  # of logits: rounding may choose either


@dataclass(frozen=True)
class Comparison:
    """Two greedy texts of one prompt: the first place where they part, and how near the two best logits are there."""

    equal: bool
    place: int | None = None
    margin: float | None = None

    @property
    def excused(self) -> bool:
        return self.margin is not None and self.margin < NEAR_TIE


class Reference:
    def __init__(self, loaded: Loaded, device: torch.device, dtype: torch.dtype) -> None:
        self.config = loaded.config
        self.tokenizer = loaded.tokenizer
        self.device, self.dtype = device, dtype
        self.model = loaded.model
        self.encoder = WhisperEncoder(whisper_config(self.config.audio))
        self.encoder.load_state_dict(loaded.model.audio_encoder.state_dict())
        self.encoder.to(device, dtype).eval()  # type: ignore[arg-type]
        self.decoder = Qwen3ForCausalLM(qwen_config(self.config.decoder))
        self.decoder.load_state_dict(
            loaded.model.decoder.state_dict(), strict=False
        )  # a tied head is not stored
        self.decoder.to(device, dtype).eval()  # type: ignore[arg-type]
        ids = self.config.tokens
        self.ends = [ids.im_end, ids.endoftext]

    @torch.inference_mode()
    def transcribe(self, audio: npt.NDArray[np.int16], max_new_tokens: int, penalty: float) -> list[int]:
        """Ids of the transcript of one window, the end not included."""
        wave = torch.from_numpy(audio.astype(np.float32) / 32768.0).to(self.device)
        mel_MT = log_mel(wave, self.config.audio.n_mels).to(self.dtype)
        padded_MT = F.pad(mel_MT, (0, CHUNK_FRAMES - mel_MT.shape[1]), value=SILENCE_VALUE)
        states_1LD = self.encoder(padded_MT[None]).last_hidden_state
        tokens = n_audio_tokens(len(audio))
        adapter = self.model.audio_adapter
        adapter.path = "loop"  # type: ignore[assignment]
        try:
            embeds_1NO, _ = adapter(states_1LD)
        finally:
            adapter.path = "grouped"  # type: ignore[assignment]
        prompt_P = torch.tensor(prompts.encode(self.tokenizer, prompts.asr(tokens)), device=self.device)
        embeds_1PO = self.model.embed(
            prompt_P[None], embeds_1NO[:, :tokens], torch.tensor([tokens], device=self.device)
        )
        return self.write(embeds_1PO, prompt_P, max_new_tokens, penalty)

    @torch.inference_mode()
    def write(self, embeds_1PO: Tensor, prompt_P: Tensor, max_new_tokens: int, penalty: float) -> list[int]:
        """Greedy `generate` after an embedded prompt, the end not included."""
        found = self.decoder.generate(  # type: ignore[misc]
            inputs_embeds=embeds_1PO,
            input_ids=prompt_P[None],
            attention_mask=torch.ones(1, len(prompt_P), dtype=torch.long, device=self.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            repetition_penalty=penalty,
            eos_token_id=self.ends,
            pad_token_id=self.ends[-1],
        )[0].tolist()
        new = found[len(prompt_P) :]
        return [token for token in new if token not in self.ends]

    @torch.inference_mode()
    def compare(
        self, embeds_1PO: Tensor, prompt_P: Tensor, ours: Sequence[int], theirs: Sequence[int], penalty: float
    ) -> Comparison:
        """Where two texts part, with the gap of the two best logits there, penalised as they were chosen."""
        if list(ours) == list(theirs):
            return Comparison(True)
        place = next(
            (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
            min(len(ours), len(theirs)),
        )
        before = torch.tensor(list(theirs[:place]), dtype=torch.long, device=self.device)
        embeds = torch.cat([embeds_1PO, self.decoder.get_input_embeddings()(before)[None]], dim=1)
        logits_V = self.decoder(inputs_embeds=embeds).logits[0, -1].float()
        seen = torch.cat([prompt_P, before])
        logits_V[seen] = torch.where(logits_V[seen] > 0, logits_V[seen] / penalty, logits_V[seen] * penalty)
        best, second = logits_V.topk(2).values.tolist()
        return Comparison(False, place, best - second)


def whisper_config(audio: AudioConfig) -> WhisperConfig:
    return WhisperConfig(
        num_mel_bins=audio.n_mels,
        d_model=audio.d_model,
        encoder_layers=audio.layers,
        encoder_attention_heads=audio.heads,
        encoder_ffn_dim=audio.ffn,
        max_source_positions=audio.positions,
    )


def qwen_config(decoder: DecoderConfig) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=decoder.vocab,
        hidden_size=decoder.hidden,
        num_hidden_layers=decoder.layers,
        num_attention_heads=decoder.heads,
        num_key_value_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        intermediate_size=decoder.ffn,
        rms_norm_eps=decoder.rms_eps,
        tie_word_embeddings=decoder.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": decoder.rope_theta},
    )
