"""In: 16 kHz audio in frames of 20 ms. Out: per frame, whether webrtcvad hears a voice.

webrtcvad adapts to what it has heard, so its answers depend on its past. `warmed` gives a detector whose whole past is
the audio before a boundary: with it, live reading and reading after a restart hear the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import webrtcvad

from streams.resample import SAMPLE_RATE_HZ

FRAME_SAMPLES: Final = 320  # 20 ms

Detector = Callable[[bytes], bool]


def warmed(mode: int, past: npt.NDArray[np.int16]) -> Detector:
    """A detector of `mode` 0 (lenient) to 3 (strict) that has heard `past`, int16 [n · 320], and nothing else."""
    is_speech = webrtcvad.Vad(mode).is_speech

    def detect(frame: bytes) -> bool:
        return bool(is_speech(frame, SAMPLE_RATE_HZ))

    for frame in frames(past):
        detect(frame)
    return detect


def frames(audio: npt.NDArray[np.int16]) -> list[bytes]:
    """The whole frames of int16 [n], little-endian."""
    size = FRAME_SAMPLES * 2
    raw = audio.astype("<i2", copy=False).tobytes()
    return [raw[at : at + size] for at in range(0, len(raw) - size + 1, size)]
