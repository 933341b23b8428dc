"""A line: what lies under the speech, how it is sent, and what goes wrong on the way.

In: a waveform, a random generator. Out: waveforms, with what was done to them. Knows no speech.
Invariant: what is said to have been done was done.
"""

from dataclasses import dataclass

import numpy as np

from model.train import sounds
from model.train.audio import Wave, at_level, drop_packets, telephone
from model.train.sounds import Recordings
from model.train.truth import Background, Line


def draw_line(rng: np.random.Generator) -> Line:
    """One of two is a telephone."""
    return "telephone" if rng.random() < 0.5 else "wideband"


def draw_background(rng: np.random.Generator) -> Background:
    """45 % clean, 35 % noise, 20 % music."""
    draw = rng.random()
    return "clean" if draw < 0.45 else "noise" if draw < 0.8 else "music"


@dataclass(frozen=True)
class Under:
    """What lies under the speech; at most a hiss on a clean line.

    `snr_db`: the reference to it, in dB; None, as `source` is "", for a clean line.
    """

    wave: Wave
    snr_db: float | None
    source: str


def background_under(
    kind: Background, samples: int, reference_rms: float, recordings: Recordings, rng: np.random.Generator
) -> Under:
    """Noise 4–20 dB or music 6–20 dB below a reference; for "clean" nothing, or a hiss of -90 to -60 dBFS."""
    if kind == "clean":
        if rng.random() < 0.3:
            return Under(np.zeros(samples, np.float32), None, "")
        slope = float(rng.choice((0.0, 1.0, 2.0)))
        hiss = at_level(sounds.coloured(samples, slope, rng), float(rng.uniform(-90, -60)))
        return Under(hiss, None, "")
    sound = sounds.draw(kind, samples, recordings, rng)
    snr_db = float(rng.uniform(4, 20) if kind == "noise" else rng.uniform(6, 20))
    wave = at_level(sound.wave, 20 * float(np.log10(reference_rms)) - snr_db)
    return Under(wave, round(snr_db, 2), sound.source)


@dataclass(frozen=True)
class Sent:
    """What came out of a line: `gain` was applied first; `clipped` is the share of samples cut off at its limit."""

    wave: Wave
    gain: float
    clipped: float
    lost_packets: int


def through(line: Line, wave: Wave, rng: np.random.Generator) -> Sent:
    """The line itself; now and then with too much gain and clipping, or with lost packets."""
    gain, clipped, lost_packets = 1.0, 0.0, 0
    if rng.random() < 0.03:
        gain = 4.0
        clipped = float(np.mean(np.abs(wave) * gain > 0.6))
        wave = np.clip(wave * gain, -0.6, 0.6)
    if rng.random() < 0.04:
        lost_packets = int(rng.integers(1, 5))
        wave = drop_packets(wave, rng, lost_packets)
    wave = np.clip(wave, -1, 1).astype(np.float32)
    if line == "telephone":
        wave = telephone(wave, float(rng.uniform(0, 300)))
    return Sent(wave, gain, clipped, lost_packets)
