"""Figures that are measured, against signals whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from streams.loudness import Measure, loudness, talk_speed


def sine(seconds: float, level_dbfs: float) -> np.ndarray:  # type: ignore[type-arg]
    """A tone whose RMS is `level_dbfs`; int16 [n]."""
    t = np.arange(round(seconds * 16_000)) / 16_000
    return (np.sin(2 * np.pi * 440 * t) * 32768 * 2**0.5 * 10 ** (level_dbfs / 20)).astype(np.int16)


@pytest.mark.parametrize(("level_dbfs", "label"), [(-45.0, "quiet"), (-24.0, "normal"), (-9.0, "loud")])
def test_pauses_do_not_count(level_dbfs: float, label: str) -> None:
    measure = loudness(
        np.concatenate([np.zeros(16_000, np.int16), sine(1, level_dbfs), np.zeros(32_000, np.int16)])
    )
    assert measure is not None
    assert (measure.label, measure.unit) == (label, "dBFS")
    assert measure.value == pytest.approx(level_dbfs, abs=0.2)


def test_nothing_is_measured_where_nothing_is() -> None:
    assert loudness(np.zeros(16_000, np.int16)) is None
    assert loudness(np.zeros(100, np.int16)) is None
    assert talk_speed(0, 160_000) is None
    assert talk_speed(2, 8000) is None


def test_talk_speed() -> None:
    assert talk_speed(10, 10 * 16_000) == Measure("slow", 60.0, "wpm")
    assert talk_speed(25, 10 * 16_000) == Measure("normal", 150.0, "wpm")
    assert talk_speed(40, 10 * 16_000) == Measure("fast", 240.0, "wpm")
