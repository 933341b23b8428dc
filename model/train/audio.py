"""Waveforms for training: read, change speed, telephone line, levels.

In and out: float32 waveforms at 16 kHz, mono, in [-1, 1]. Knows no labels.
Invariant: every function is a pure function of its arguments (randomness comes in as a generator).
"""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
RATE_HZ = 16_000
MU = 255.0


def read(path: Path) -> Wave:
    """Decode a file of any common format (raw G.722 by its suffix) to 16 kHz mono."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pieces: list[NDArray[np.int16]] = []
    with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [np.asarray(out.to_ndarray()[0], np.int16) for out in resampler.resample(frame)]
        pieces += [np.asarray(out.to_ndarray()[0], np.int16) for out in resampler.resample(None)]
    whole = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    return (whole / 32768).astype(np.float32)


def to_int16(wave: Wave) -> NDArray[np.int16]:
    """Clip and quantise, as a recording would be."""
    samples: NDArray[np.int16] = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    return samples


def rms(wave: Wave) -> float:
    """Root mean square, at least 1e-6."""
    return max(float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0, 1e-6)


def at_level(wave: Wave, dbfs: float) -> Wave:
    """Scaled to an RMS of `dbfs`."""
    return (wave * (10 ** (dbfs / 20) / rms(wave))).astype(np.float32)


def change_speed(wave: Wave, factor: float) -> Wave:
    """Play faster by `factor` (pitch moves along), by linear interpolation."""
    positions = np.arange(0, len(wave) - 1, factor)
    return np.asarray(np.interp(positions, np.arange(len(wave)), wave), dtype=np.float32)


def telephone(wave: Wave, low_hz: float) -> Wave:
    """8 kHz, band-limited to low_hz … 3500 Hz, through µ-law and back to 16 kHz."""
    even = np.pad(wave, (0, smooth_length(len(wave)) - len(wave)))
    narrow = _band(even, low_hz, 3500.0)[::2]
    peak = float(np.abs(narrow).max()) if len(narrow) else 0.0
    if peak > 1:
        narrow = narrow / peak
    compressed = np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU)
    steps = np.round((compressed + 1) / 2 * 255) / 255 * 2 - 1
    coded = np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(MU)) / MU
    spectrum = np.fft.rfft(coded)
    upper = np.zeros(len(even) // 2 + 1, complex)
    upper[: len(spectrum)] = spectrum
    return (np.fft.irfft(upper, len(even)) * 2).astype(np.float32)[: len(wave)]


def _band(wave: Wave, low_hz: float, high_hz: float) -> Wave:
    length = smooth_length(len(wave))
    spectrum = np.fft.rfft(wave, length)
    hz = np.fft.rfftfreq(length, 1 / RATE_HZ)
    kept = np.where((hz >= low_hz) & (hz <= high_hz), spectrum, 0)
    return np.fft.irfft(kept, length)[: len(wave)].astype(np.float32)


def smooth_length(samples: int) -> int:
    """The next multiple of 4000: a Fourier transform of a prime number of samples takes ten times as long."""
    return -(-samples // 4000) * 4000


def drop_packets(wave: Wave, rng: np.random.Generator, count: int) -> Wave:
    """Silence `count` pieces of 20–60 ms."""
    out = wave.copy()
    for _ in range(count):
        start = int(rng.integers(0, max(1, len(out) - 960)))
        out[start : start + int(rng.integers(320, 960))] = 0
    return out


def trim(wave: Wave, floor_db: float = -40.0) -> Wave:
    """Cut leading and trailing parts quieter than `floor_db` below the loudest 20 ms."""
    frames = len(wave) // 320
    if frames == 0:
        return wave
    energy = np.sqrt(np.mean(np.square(wave[: frames * 320].reshape(frames, 320)), axis=1))
    loud = np.flatnonzero(energy > energy.max() * 10 ** (floor_db / 20))
    return wave[loud[0] * 320 : (loud[-1] + 1) * 320] if len(loud) else wave
