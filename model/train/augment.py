"""Other waveforms than the recorded ones: speed, noise, telephone line, level, lost packets.

In: a waveform and a random generator. Out: a waveform. Knows no label: who calls it must know that none of what is
said about the window depends on pace, pitch, line, level or background.
Invariant: a pure function of its arguments; what was not longer than 30 s stays so.
"""

import numpy as np

from model.train.audio import RATE_HZ, Wave, at_level, change_speed, drop_packets, rms, telephone
from model.train.manifest import LONGEST_S
from model.train.sounds import coloured

# Chances, in the order in which they are drawn; speech-to-noise in dB, level in dBFS.
SPEED, NOISE, TELEPHONE, CLIPPED, LOST = 0.5, 0.4, 0.4, 0.03, 0.04
SPEEDS, SNR_DB, LEVEL_DBFS = (0.92, 1.1), (5.0, 25.0), (-36.0, -16.0)


def augment(wave: Wave, rng: np.random.Generator) -> Wave:
    """One more version of what was recorded; digital silence stays silence."""
    if rms(wave) <= 1e-6:
        return wave
    factor = float(rng.uniform(*SPEEDS)) if rng.random() < SPEED else 1.0
    if len(wave) / factor <= LONGEST_S * RATE_HZ:
        wave = change_speed(wave, factor)
    if rng.random() < NOISE:
        snr_db = float(rng.uniform(*SNR_DB))
        noise = coloured(len(wave), float(rng.choice((0.0, 1.0, 2.0))), rng)
        wave = wave + at_level(noise, 20 * float(np.log10(rms(wave))) - snr_db)
    wave = at_level(wave, float(rng.uniform(*LEVEL_DBFS)))
    narrow, clipped, lost = rng.random(3) < (TELEPHONE, CLIPPED, LOST)
    if clipped:
        wave = np.clip(wave * 4, -0.6, 0.6)
    if lost:
        wave = drop_packets(wave, rng, count=int(rng.integers(1, 5)))
    wave = np.clip(wave, -1, 1).astype(np.float32)
    return telephone(wave, float(rng.uniform(0, 300))) if narrow else wave
