"""A short soak of a tiny engine, and the windows it is fed with."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from model import checkpoint
from model.bench import soak
from model.features import SAMPLE_RATE_HZ
from tests.model import tiny


@pytest.fixture
def path(tmp_path: Path) -> Path:
    decoding = dataclasses.replace(tiny.CONFIG.decoding, max_new_tokens=8, speech_threshold=0.0)
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(tiny.model(decoding=decoding), tiny.tokenizer(), path)
    return path


def test_every_window_is_answered_and_memory_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([100.0, 100.0, 102.0, 103.0, 104.0])
    monkeypatch.setattr(soak, "resident_mb", lambda: next(readings))
    found = soak.run(path, windows=12, first=4, device="cpu", threads=1)
    assert (found.windows, found.errors, found.every) == (12, 0, 4)
    assert found.rss_mb == (100.0, 102.0, 103.0)
    assert (found.rss_first_mb, found.rss_last_mb, found.ratio) == (100.0, 104.0, 1.04)
    assert found.holds
    assert found.texts
    assert json.loads(json.dumps(dataclasses.asdict(found)))["holds"] is True


def test_memory_that_grows_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([100.0, 100.0, 106.0, 106.0])
    monkeypatch.setattr(soak, "resident_mb", lambda: next(readings))
    assert not soak.run(path, windows=4, first=2, device="cpu", threads=1).holds


def test_too_few_windows_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="more expected"):
        soak.run(path, windows=200)


def test_windows_are_seeded_mixed_and_within_bounds() -> None:
    requests = [soak.made(3, number) for number in range(24)]
    assert np.array_equal(requests[7].audio, soak.made(3, 7).audio)
    assert not np.array_equal(requests[7].audio[:1000], soak.made(4, 7).audio[:1000])
    lengths_s = [len(request.audio) / SAMPLE_RATE_HZ for request in requests]
    assert 0.29 < min(lengths_s) < 1
    assert 6 < max(lengths_s) < 12.01
    assert {request.tasks for request in requests[0::2]} == set(soak.TASKS)
    assert {request.tasks for request in requests[1::2]} == set(soak.TASKS)
    assert soak.resident_mb() > 10
