"""In: the audio of a window, or a number of words and samples. Out: a measured figure with a label, or None.

Signal processing only, no model: these become the events with `source=dsp`. Where there is too little to measure, the
answer is None, never a guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streams.resample import SAMPLE_RATE_HZ

BLOCK_SAMPLES: Final = 320  # 20 ms
FULL_SCALE: Final = 32768.0
ABSOLUTE_GATE_DBFS: Final = -60.0
RELATIVE_GATE_DB: Final = -15.0  # pauses are that much below the mean of what passes the absolute gate
QUIET_BELOW_DBFS: Final = -34.0
LOUD_ABOVE_DBFS: Final = -14.0
SLOW_BELOW_WPM: Final = 110.0
FAST_ABOVE_WPM: Final = 190.0
MIN_SPEED_SAMPLES: Final = SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure in `unit`, and the range it falls in."""

    label: str
    value: float
    unit: str


def loudness(audio: npt.NDArray[np.int16]) -> Measure | None:
    """RMS in dBFS of the voiced part of int16 [n]: two gates in the manner of ITU-R BS.1770 leave the pauses out.

    None where nothing is above the absolute gate.
    """
    blocks = audio[: audio.size // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    power = np.square(blocks.astype(np.float64) / FULL_SCALE).mean(axis=1)
    power = power[power > 10 ** (ABSOLUTE_GATE_DBFS / 10)]
    if not power.size:
        return None
    power = power[power >= power.mean() * 10 ** (RELATIVE_GATE_DB / 10)]
    level_dbfs = round(10 * math.log10(float(power.mean())), 1)
    return Measure(
        _label(level_dbfs, QUIET_BELOW_DBFS, LOUD_ABOVE_DBFS, ("quiet", "normal", "loud")), level_dbfs, "dBFS"
    )


def talk_speed(words: int, samples: int) -> Measure | None:
    """Words per minute over `samples` at 16 kHz; None without words or over less than a second."""
    if words <= 0 or samples < MIN_SPEED_SAMPLES:
        return None
    speed_wpm = round(words * 60 * SAMPLE_RATE_HZ / samples, 1)
    return Measure(
        _label(speed_wpm, SLOW_BELOW_WPM, FAST_ABOVE_WPM, ("slow", "normal", "fast")), speed_wpm, "wpm"
    )


def _label(value: float, low: float, high: float, labels: tuple[str, str, str]) -> str:
    return labels[0] if value < low else labels[2] if value > high else labels[1]
