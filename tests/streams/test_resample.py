"""The resampler is exact: where one begins to read and how the audio is split changes no sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.resample import Resampler, position, supported_rate
from tests.streams.sound import Int16

RATES = [4000, 8000, 11_025, 12_000, 22_050, 24_000, 44_100, 48_000, 96_000, 191_000, 192_000]


def tone(rate: int, frequency_hz: float, start: int, size: int) -> Int16:
    """int16 [1, n] of a tone whose phase counts from sample 0 of the session."""
    t = (np.arange(size) + start) / rate
    return (10_000 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.int16)[None]


def resample(samples: Int16, rate: int, start: int, sizes: list[int] | None = None) -> Int16:
    resampler = Resampler(rate, samples.shape[0], start, position(start, rate))
    out, at = [], 0
    for n in range(samples.shape[1]):
        if at >= samples.shape[1]:
            break
        size = sizes[n % len(sizes)] if sizes else samples.shape[1]
        out.append(resampler.push(samples[:, at : at + size]))
        at += size
    return np.concatenate([*out, resampler.flush()], axis=1)


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_stays_that_tone_at_its_place(rate: int) -> None:
    start, size = 7 * rate + 13, rate
    got = resample(tone(rate, 1000, start, size), rate, start)[0]
    assert got.size == position(start + size, rate) - position(start, rate)
    wanted = tone(16_000, 1000, position(start, rate), got.size)[0]
    error = (got.astype(float) - wanted)[500:-500]
    assert 20 * np.log10(7071 / error.std()) > 70


@pytest.mark.parametrize(("rate", "frequency_hz"), [(24_000, 9500), (44_100, 12_000), (48_000, 9500)])
def test_what_16_khz_cannot_carry_is_gone(rate: int, frequency_hz: float) -> None:
    got = resample(tone(rate, frequency_hz, 0, rate), rate, 0)[0, 500:-500]
    assert 20 * np.log10(got.std() / 7071) < -70


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.sampled_from(RATES),
    st.integers(0, 10**9),
    st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    st.data(),
)
def test_no_split_and_no_beginning_changes_a_sample(
    rate: int, start: int, sizes: list[int], data: st.DataObject
) -> None:
    noise = np.random.default_rng(start).integers(-32768, 32768, (2, rate // 4), dtype=np.int16)
    whole = resample(noise, rate, start)
    assert np.array_equal(resample(noise, rate, start, sizes), whole)
    later = data.draw(st.integers(1, rate // 8))
    tail = resample(noise[:, later:], rate, start + later)
    skip = position(start + later, rate) - position(start, rate)
    settled = 16 * 10  # 10 ms: more than the neighbourhood at any rate
    assert np.array_equal(tail[:, settled:], whole[:, skip + settled :])


def test_16_khz_passes_untouched() -> None:
    noise = np.random.default_rng(1).integers(-32768, 32768, (2, 5000), dtype=np.int16)
    assert np.array_equal(resample(noise, 16_000, 77, [640]), noise)


@pytest.mark.parametrize("level", [-32768, -1, 0, 1, 12_345, 32_767])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_constant_stays_that_constant(level: int, rate: int) -> None:
    got = resample(np.full((1, rate), level, np.int16), rate, 0)[0, 300:-300]
    assert set(got.tolist()) == {level}


def test_odd_rates_are_not_supported() -> None:
    assert [
        r for r in (0, -8000, 7999, 16_001, 11_025, 33_075, 187_425, 44_100, 1000) if supported_rate(r)
    ] == [
        11_025,
        44_100,
        1000,
    ]
    with pytest.raises(ValueError, match="multiple"):
        Resampler(16_001, 1, 0, 0)
