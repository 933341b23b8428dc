"""In: int16 audio of one run at any spoken rate. Out: the same at 16 kHz, in step with the session's clock.

Output sample q (a 16 kHz position in the session) is the band-limited value at input time q · rate / 16000, from a
fixed neighbourhood of input samples; before a run and after it lies silence. Coefficients are integers and every sum
is below 2^53, so float64 products are exact in any order. Invariant: however a run is split into pushes, and wherever
in it one begins to read (outside the neighbourhood of that place), each output sample has the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ: Final = 16_000
COMPACT_DISC_RATES: Final = (11_025, 22_050, 44_100, 88_200, 176_400)
LOBES: Final = 24  # of the sinc on each side, at the lower of the two rates
KAISER_BETA: Final = 8.0
PASS_FRACTION: Final = 0.94  # cut-off, of the lower Nyquist frequency
COEFFICIENT_BITS: Final = 16
# OpenBLAS spreads larger products over threads, and on a busy machine each then waits for its slowest thread
MAX_PRODUCT: Final = 200_000
MIN_BLOCK: Final = 32  # outputs per row of the matrix product: small blocks copy more than they compute

Int16 = npt.NDArray[np.int16]


def supported_rate(rate: int) -> bool:
    """Rates whose ratio to 16 kHz needs a small filter table: multiples of 1000, and those of the compact disc.

    Odd multiples of 11025 Hz would cost 40 MB each, and seconds for a chunk of a few kilobytes.
    """
    return rate > 0 and (rate % 1000 == 0 or rate in COMPACT_DISC_RATES)


def position(sample: int, rate: int) -> int:
    """The 16 kHz position of a sample at `rate`, rounded down."""
    return sample * SAMPLE_RATE_HZ // rate


@dataclass(frozen=True)
class _Filter:
    """`up` outputs for every `down` inputs: [blocks, width] windows times `matrix` [width, up]."""

    up: int
    down: int
    half: int  # neighbourhood: input samples needed on each side
    width: int
    matrix: npt.NDArray[np.float64]


class Resampler:
    """One run of audio, `channels` side by side, starting at input sample `start_sample` of the session."""

    def __init__(self, rate: int, channels: int, start_sample: int, start_position: int) -> None:
        self._filter = _design(rate) if rate != SAMPLE_RATE_HZ else None
        self._rate = rate
        self._end = start_sample  # input sample after the last one pushed
        self._next = start_position  # 16 kHz position of the next output
        self._first = start_sample  # input sample index of _held[:, 0]
        self._held: Int16 = np.zeros((channels, 0), np.int16)
        if self._filter:
            # silence before the run, as far back as the first block of outputs may look
            self._first = start_sample - self._filter.down - 2 * self._filter.half
            self._held = np.zeros((channels, start_sample - self._first), np.int16)

    def push(self, samples: Int16) -> Int16:
        """Add int16 [channels, n]; return int16 [channels, m], all outputs whose neighbourhood is complete."""
        self._end += samples.shape[1]
        if self._filter is None:
            self._next += samples.shape[1]
            return samples
        self._held = np.concatenate((self._held, samples), axis=1)
        # input centre + half must be there: q · rate / 16000 + half < end
        return self._take(position(self._end - self._filter.half - 1, self._rate))

    def flush(self) -> Int16:
        """End the run: the remaining outputs up to its end, with silence after it."""
        if self._filter is None:
            return self._held
        channels = self._held.shape[0]
        tail = np.zeros((channels, self._filter.half + self._filter.down + 1), np.int16)
        self._held = np.concatenate((self._held, tail), axis=1)
        return self._take(position(self._end, self._rate))

    def _take(self, stop: int) -> Int16:
        f = self._filter
        assert f is not None
        if stop <= self._next:
            return np.zeros((self._held.shape[0], 0), np.int16)
        block = self._next // f.up
        blocks = -(-stop // f.up) - block
        # block b holds outputs [b·up, (b+1)·up); its window starts at input b·down − half + 1
        at = block * f.down - f.half + 1 - self._first
        missing = at + (blocks - 1) * f.down + f.width - self._held.shape[1]
        held = np.pad(self._held, ((0, 0), (0, missing))) if missing > 0 else self._held
        windows = np.lib.stride_tricks.sliding_window_view(held[:, at:], f.width, axis=1)[:, :: f.down][
            :, :blocks
        ]
        rows = max(1, MAX_PRODUCT // f.matrix.size)
        sums = [windows[:, at : at + rows].astype(np.float64) @ f.matrix for at in range(0, blocks, rows)]
        out = np.concatenate(sums, axis=1).reshape(held.shape[0], -1)
        out = out[:, self._next - block * f.up : stop - block * f.up]
        rounded = np.floor((out + (1 << (COEFFICIENT_BITS - 1))) / (1 << COEFFICIENT_BITS))
        self._next = stop
        keep = stop // f.up * f.down - f.half + 1 - self._first
        self._held = self._held[:, keep:]
        self._first += keep
        return np.clip(rounded, -32768, 32767).astype(np.int16)


@lru_cache(maxsize=32)
def _design(rate: int) -> _Filter:
    """Kaiser-windowed sinc for one rate, one row of integer taps per output phase; each row sums to 1."""
    if not supported_rate(rate):
        raise ValueError(f"{rate} Hz is neither a multiple of 1000 nor of the compact disc")
    common = math.gcd(rate, SAMPLE_RATE_HZ)
    up, down = SAMPLE_RATE_HZ // common, rate // common
    repeat = max(1, MIN_BLOCK // up)
    up, down = up * repeat, down * repeat
    stretch = max(1.0, rate / SAMPLE_RATE_HZ)
    half = math.ceil(LOBES * stretch)
    width = down + 2 * half
    matrix = np.zeros((width, up))
    window = np.kaiser(4096 * 2 + 1, KAISER_BETA)
    for phase in range(up):
        centre, fraction = divmod(phase * down, up)
        taps = np.arange(1 - half, half + 1)  # input samples relative to the centre
        distance = (taps - fraction / up) / stretch
        shape = np.interp(distance, np.linspace(-LOBES, LOBES, window.size), window, left=0, right=0)
        ideal = np.sinc(distance * PASS_FRACTION) * shape
        whole = np.rint(ideal / ideal.sum() * (1 << COEFFICIENT_BITS))
        whole[np.argmax(whole)] += (1 << COEFFICIENT_BITS) - whole.sum()
        matrix[centre : centre + 2 * half, phase] = whole
    return _Filter(up, down, half, width, matrix)
