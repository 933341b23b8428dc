"""The axes on a tiny engine, and slopes of laws that are known; no time is asserted."""

import dataclasses
import json
from pathlib import Path

import pytest

from model import checkpoint
from model.bench import growth
from model.bench.growth import Growth, Point
from tests.model import tiny

LAW = tuple(Point("window_s", float(size), 3.0 * size**1.5, 700.0) for size in (1, 2, 8, 30))


def test_every_axis_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    decoding = dataclasses.replace(tiny.CONFIG.decoding, max_new_tokens=12, speech_threshold=0.0)
    checkpoint.save(tiny.model(decoding=decoding), tiny.tokenizer(), path)
    found = growth.run(path, "cpu", windows=(2, 1), lengths_s=(0.5, 1.0), slots=(1, 4), repeats=1)
    assert [(point.axis, point.size) for point in found.points] == [
        ("windows_in_flight", 1),
        ("windows_in_flight", 2),
        ("window_s", 0.5),
        ("window_s", 1.0),
        ("decode_slots", 1),
        ("decode_slots", 4),
    ]
    assert all(point.seconds > 0 and point.memory_mb > 0 for point in found.points)
    assert len(found.exponents) == 6
    assert json.loads(json.dumps(dataclasses.asdict(found)))["exponents"] == found.exponents


def test_exponents_are_the_slopes() -> None:
    found = growth.exponents([*LAW, Point("decode_slots", 4.0, 1.0, 1.0)])
    assert found == {"window_s.seconds": pytest.approx(1.5), "window_s.memory_mb": pytest.approx(0.0)}


def test_the_plot_is_a_png(tmp_path: Path) -> None:
    made = Growth("tiny", "cpu", 1, LAW, growth.exponents(LAW))
    growth.plot(made, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
