"""Audio made on the spot: voices that webrtcvad takes for speech, and chunks of it as a producer would send them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.audio import Pcm
from streams.messages import Chunk, Origin, SessionKey

Int16 = npt.NDArray[np.int16]
KEY = SessionKey("default", "call-1", "a-session")


def voice(seconds: float, seed: int, rate: int = 16_000) -> Int16:
    """Harmonics of a wandering pitch under three formants, at the pace of syllables; int16 [n]."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch_hz = rng.uniform(100, 180) * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(1.5, 3) * t))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    sound = rng.normal(0, 0.02, t.size)
    for harmonic in range(1, 20):
        frequency = harmonic * float(pitch_hz.mean())
        if frequency < 0.45 * rate:
            formants = sum(
                1 / (1 + ((frequency - f) / w) ** 2) for f, w in ((500, 90), (1500, 120), (2500, 160))
            )
            sound += (formants + 0.02) * np.sin(harmonic * phase)
    sound *= 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(3, 5) * t + rng.uniform(0, 6))
    return (sound / np.abs(sound).max() * 12_000).astype(np.int16)


def noise(seconds: float, seed: int, rate: int = 16_000, level: float = 20.0) -> Int16:
    """Quiet noise, as of an open line; int16 [n]."""
    return np.random.default_rng(seed).normal(0, level, round(seconds * rate)).astype(np.int16)


def talk(plan: list[float], seed: int, rate: int = 16_000) -> Int16:
    """Voices (positive seconds) and quiet lines (negative seconds), one after the other; int16 [n]."""
    parts = [voice(s, seed + i, rate) if s > 0 else noise(-s, seed + i, rate) for i, s in enumerate(plan)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Sent:
    """A chunk on its way, decoded already."""

    chunk: Chunk
    pcm: Pcm

    @property
    def end_sample(self) -> int:
        """16 kHz position of its end, rounded down."""
        return (self.chunk.start_sample + self.pcm.samples.shape[1]) * 16_000 // self.pcm.rate


def sent(sequence: int, start: int, samples: Int16, rate: int, roles: tuple[str, ...] | None = None) -> Sent:
    """One chunk of int16 [channels, n] that starts at `start`, at `rate`."""
    parent = f"00-{sequence + 1:032x}-{sequence + 1:016x}-01"
    origin = Origin("audio.chunks", 0, sequence + 100)
    chunk = Chunk(
        KEY, sequence, start, "audio/x-raw", b"", roles, f"{sequence}", "/test", None, parent, origin
    )
    return Sent(chunk, Pcm(samples, rate))
