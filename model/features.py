"""Log-mel features, exactly as the Eureka-Audio code computes them.

In: mono waveforms at 16 kHz as float tensors in [-1, 1). Out: `[n_mels, T]` with T = padded samples / 160.
Knows nothing of chunks' encoder, of batches' order or of the model's widths beside `n_mels`.
Invariant: T is a multiple of 8, so T / 2 encoder frames are a multiple of 4 and T / 8 audio tokens are exact.
The mel bank is Slaney's (Auditory Toolbox, 1998), the one Whisper ships as mel_filters.npz, computed here.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
FFT_SAMPLES = 400
HOP_SAMPLES = 160  # 10 ms: 100 mel frames per second
TOKEN_SAMPLES = 1280  # 80 ms: one audio token, 8 mel frames, 4 encoder frames
FRAMES_PER_TOKEN = TOKEN_SAMPLES // HOP_SAMPLES  # mel frames
CHUNK_FRAMES = 3000  # 30 s, what the encoder sees at once
SILENCE_VALUE = -1.5  # digital silence after normalisation: (log10(1e-10) + 4) / 4


def n_audio_tokens(samples: int) -> int:
    """Audio tokens (80 ms each) of a clip of `samples` samples, after padding."""
    return -(-samples // TOKEN_SAMPLES)


def pad_to_token(audio_N: Tensor) -> Tensor:
    """Zero-pad `[…, N]` at the end to a multiple of 1280 samples."""
    return torch.nn.functional.pad(audio_N, (0, -audio_N.shape[-1] % TOKEN_SAMPLES))


def log_mel(audio_N: Tensor, n_mels: int) -> Tensor:
    """Log-mel of one clip: `[N]` → `[n_mels, T]`, float32. Raises ValueError for an empty clip."""
    if audio_N.ndim != 1 or audio_N.shape[0] == 0:
        raise ValueError(f"one waveform of at least one sample expected, got shape {tuple(audio_N.shape)}")
    audio = pad_to_token(audio_N.to(torch.float32))
    window = torch.hann_window(FFT_SAMPLES, periodic=True, device=audio.device)
    spectrum_FT = torch.stft(
        audio, FFT_SAMPLES, HOP_SAMPLES, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    power_FT = spectrum_FT.real.square() + spectrum_FT.imag.square()
    mel_MT = mel_filters(n_mels).to(audio.device) @ power_FT
    log_MT = mel_MT.clamp(min=1e-10).log10()
    # The maximum is the clip's own and includes the frame that is dropped next.
    log_MT = torch.maximum(log_MT, log_MT.max() - 8.0)
    return ((log_MT + 4.0) / 4.0)[:, :-1].contiguous()


def log_mel_batch(audios: list[Tensor], n_mels: int) -> tuple[Tensor, Tensor]:
    """Each clip by itself, then stacked: `([B, n_mels, T_max], lengths [B] in mel frames)`, padded with −1.5."""
    return stack([log_mel(audio, n_mels) for audio in audios])


def stack(mels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack clips `[n_mels, T_i]` of different lengths: `([B, n_mels, T_max], lengths [B])`, padded with −1.5."""
    lengths_B = torch.tensor([mel.shape[1] for mel in mels], device=mels[0].device)
    longest = max(mel.shape[1] for mel in mels)
    padded = [torch.nn.functional.pad(mel, (0, longest - mel.shape[1]), value=SILENCE_VALUE) for mel in mels]
    return torch.stack(padded), lengths_B


@functools.lru_cache(maxsize=8)
def mel_filters(n_mels: int) -> Tensor:
    """Slaney mel bank `[n_mels, 201]`, area-normalised triangles from 0 to 8000 Hz, float32."""
    edges_hz = _mel_to_hz(
        torch.linspace(0.0, _hz_to_mel(SAMPLE_RATE_HZ / 2), n_mels + 2, dtype=torch.float64)
    )
    bins_hz = torch.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64)
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising = (bins_hz - low) / (centre - low)
    falling = (high - bins_hz) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0.0)
    return (triangles * (2.0 / (high - low))).to(torch.float32)


# Slaney's scale: linear (200/3 Hz per mel) up to 1000 Hz = 15 mel, then 27 mel per factor of 6.4.
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return hz * 3.0 / 200.0 if hz < 1000.0 else 15.0 + math.log(hz / 1000.0) / _LOG_STEP


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp(_LOG_STEP * (mel - 15.0)))
