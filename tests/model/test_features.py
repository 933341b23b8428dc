"""Log-mel against transformers' WhisperFeatureExtractor, an implementation that shares no code with ours."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from model import features


def noisy_tone(samples: int, seed: int) -> np.ndarray:
    """A decaying tone in noise: its loudest frame is not the last one, which transformers drops too early."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(samples) / 16_000
    audio = np.exp(-time_s) * np.sin(2 * np.pi * 440 * time_s) * 0.4 + rng.normal(0, 0.01, samples)
    return audio.astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("samples", [1280, 19_999, 80_000])
def test_equals_transformers(n_mels: int, samples: int) -> None:
    audio = noisy_tone(samples, seed=samples)
    extractor = WhisperFeatureExtractor(feature_size=n_mels)  # type: ignore[no-untyped-call]
    padded = np.pad(audio, (0, -samples % 1280))
    reference = extractor._np_extract_fbank_features(padded[None], "cpu")[0]
    ours = features.log_mel(torch.from_numpy(audio), n_mels)
    assert ours.shape == reference.shape == (n_mels, features.n_audio_tokens(samples) * 8)
    np.testing.assert_allclose(ours.numpy(), reference, atol=1e-4)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_mel_bank_equals_transformers(n_mels: int) -> None:
    reference = WhisperFeatureExtractor(feature_size=n_mels).mel_filters  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(features.mel_filters(n_mels).numpy(), reference.T, atol=1e-7)


def test_maximum_is_taken_before_the_last_frame_is_dropped() -> None:
    audio = torch.full((12_800,), 0.001) * torch.randn(12_800, generator=torch.Generator().manual_seed(0))
    audio[-40:] = 0.9  # inside the last, dropped frame and at the edge of the one before
    kept = features.log_mel(audio, 80)
    floor = kept.min()
    window = torch.hann_window(400)
    spectrum = torch.stft(audio, 400, 160, window=window, return_complex=True).abs() ** 2
    log = (features.mel_filters(80) @ spectrum).clamp(min=1e-10).log10()
    assert log[:, -1].max() > log[:, :-1].max()
    assert floor >= (log.max() - 8 + 4) / 4 - 1e-5


def test_silence_is_the_padding_value() -> None:
    assert torch.equal(features.log_mel(torch.zeros(1280), 80), torch.full((80, 8), features.SILENCE_VALUE))


def test_batch_pads_with_silence_and_keeps_each_clip() -> None:
    clips = [torch.from_numpy(noisy_tone(n, seed=n)) for n in (3000, 9000)]
    batch, lengths = features.log_mel_batch(clips, 80)
    assert lengths.tolist() == [24, 64]
    assert torch.equal(batch[0, :, :24], features.log_mel(clips[0], 80))
    assert (batch[0, :, 24:] == features.SILENCE_VALUE).all()


def test_empty_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        features.log_mel(torch.zeros(0), 80)
