"""Our encoder against transformers' WhisperEncoder on the same random weights, and against itself in batches."""

import pytest
import torch
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder as Reference

from model.config import AudioConfig
from model.encoder import WhisperEncoder

AUDIO = AudioConfig(n_mels=80, d_model=32, layers=2, heads=4, ffn=64, positions=64)


def ours() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(AUDIO).eval()


def test_equals_transformers_and_loads_its_keys() -> None:
    encoder = ours()
    reference = Reference(
        WhisperConfig(
            num_mel_bins=80,
            d_model=32,
            encoder_layers=2,
            encoder_attention_heads=4,
            encoder_ffn_dim=64,
            max_source_positions=64,
            dropout=0.0,
        )
    )
    reference.train(False)
    reference.load_state_dict(encoder.state_dict(), strict=True)
    mel = torch.randn(2, 80, 128)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(mel), reference(mel).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_a_clip_does_not_depend_on_its_batch() -> None:
    encoder = ours()
    clips = [torch.randn(80, frames) for frames in (16, 64, 40)]
    batch = torch.stack([torch.nn.functional.pad(c, (0, 64 - c.shape[1]), value=-1.5) for c in clips])
    with torch.inference_mode():
        together = encoder(batch, torch.tensor([16, 64, 40]))
        for row, clip in enumerate(clips):
            alone = encoder(clip[None])[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [7, 130])
def test_impossible_lengths_are_refused(frames: int) -> None:
    with pytest.raises(ValueError, match="even number"):
        ours()(torch.zeros(1, 80, frames))
