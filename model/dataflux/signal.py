"""What arithmetic alone says of a clip: level, bandwidth, pitch, how tonal it is. No weights.

In: 16 kHz int16 `[n]`. Out: figures with units, and from them the value of an aspect, or None where they do not tell.
Knows no model and no scene. Invariant: a pure function of the samples. The thresholds were set on scenes of seeds below
1000; runs are scored on others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.dataflux.values import Samples

RATE_HZ = 16_000
FRAME = 1024  # 64 ms
SILENT_BELOW_DBFS = -55.0
NARROW_BELOW_DB = -38.0  # energy above 4.2 kHz by that from 0.3 to 3.4 kHz
TONAL_ABOVE = 0.8  # share of a frame's energy in its eight strongest bins
FLAT_ABOVE = 0.12  # geometric by arithmetic mean of the power spectrum, 0.1 to 3.4 kHz
FEMALE_ABOVE_HZ = 165.0
PERIODIC_ABOVE = 0.5  # height of the autocorrelation's peak of a voiced frame
PITCH_HZ = (70.0, 350.0)
QUIET_BELOW_DBFS, LOUD_ABOVE_DBFS = -32.0, -22.0
MARGIN = 4800  # 300 ms around the words
FAINT_DB = 14.0  # how far below the words a sound may be
LEAST_SOUND = 9600  # 600 ms of it


@dataclass(frozen=True)
class Figures:
    """`level_dbfs`: RMS; `treble_db`: see NARROW_BELOW_DB; `tonal`, `flat`: medians over the louder half of the frames;
    `pitch_hz`: the median over periodic frames, None without any."""

    level_dbfs: float
    treble_db: float
    tonal: float
    flat: float
    pitch_hz: float | None


def measure(audio: Samples) -> Figures:
    """Measure a clip of at least a frame; a shorter one is padded with zeros."""
    wave = audio.astype(np.float64) / 32768.0
    frames = np.pad(wave, (0, -len(wave) % FRAME)).reshape(-1, FRAME)
    level = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    loud = frames[level >= np.quantile(level, 0.5)]
    power = np.square(np.abs(np.fft.rfft(loud * np.hanning(FRAME), axis=1))) + 1e-12
    hz = np.fft.rfftfreq(FRAME, 1 / RATE_HZ)
    middle = power[:, (hz >= 300) & (hz <= 3400)].sum()
    treble = power[:, hz >= 4200].sum()
    band = power[:, (hz >= 100) & (hz <= 3400)]
    strongest = np.sort(power, axis=1)[:, -8:].sum(axis=1) / power.sum(axis=1)
    flat = np.exp(np.log(band).mean(axis=1)) / band.mean(axis=1)
    return Figures(
        level_dbfs=float(10 * np.log10(np.square(wave).mean() + 1e-12)),
        treble_db=float(10 * np.log10(treble / middle)),
        tonal=float(np.median(strongest)),
        flat=float(np.median(flat)),
        pitch_hz=_pitch(loud),
    )


def line(figures: Figures) -> str | None:
    """telephone or wideband; None where nothing is transmitted."""
    if figures.level_dbfs < SILENT_BELOW_DBFS:
        return None
    return "telephone" if figures.treble_db < NARROW_BELOW_DB else "wideband"


def voice(figures: Figures) -> str | None:
    """female or male by pitch; None without a periodic frame."""
    if figures.pitch_hz is None:
        return None
    return "female" if figures.pitch_hz > FEMALE_ABOVE_HZ else "male"


def sound(figures: Figures, words: int) -> str:
    """The class of a clip in which `words` words were recognised."""
    if words:
        return "speech"
    if figures.level_dbfs < SILENT_BELOW_DBFS:
        return "silence"
    if figures.tonal > TONAL_ABOVE:
        return "tones"
    return "noise" if figures.flat > FLAT_ABOVE else "music"


def loudness(speech: Samples) -> str:
    """quiet, normal or loud, of a piece in which somebody speaks."""
    level = _dbfs(speech.astype(np.float64) / 32768.0)
    return "quiet" if level < QUIET_BELOW_DBFS else "loud" if level > LOUD_ABOVE_DBFS else "normal"


def order(audio: Samples, start: int, end: int) -> str:
    """What comes before and after the words, which lie in [start, end): as loud as they are, and for a while."""
    wave = audio.astype(np.float64) / 32768.0
    level = _dbfs(wave[start:end])
    parts = [_sounds(wave[: max(0, start - MARGIN)], level), True, _sounds(wave[end + MARGIN :], level)]
    return ", ".join(name for name, heard in zip(("sound", "speech", "sound"), parts, strict=True) if heard)


def _sounds(wave: np.ndarray, speech_dbfs: float) -> bool:
    """Whether there is a second or so of sound that is not far below the speech."""
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
    return int((levels > speech_dbfs - FAINT_DB).sum()) * FRAME >= LEAST_SOUND


def _dbfs(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wave).mean() + 1e-12)) if len(wave) else -120.0


def _pitch(frames: np.ndarray) -> float | None:
    """Median pitch in Hz of frames `[m, FRAME]` whose autocorrelation has a clear peak."""
    spectrum = np.fft.rfft(frames * np.hanning(FRAME), 2 * FRAME, axis=1)
    correlation = np.fft.irfft(np.square(np.abs(spectrum)), axis=1)[:, :FRAME]
    low, high = int(RATE_HZ / PITCH_HZ[1]), int(RATE_HZ / PITCH_HZ[0])
    peaks = correlation[:, low:high].argmax(axis=1) + low
    height = correlation[np.arange(len(frames)), peaks] / (correlation[:, 0] + 1e-12)
    periodic = height > PERIODIC_ABOVE
    return float(np.median(RATE_HZ / peaks[periodic])) if periodic.any() else None
