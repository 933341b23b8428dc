"""The measurements of the engine on a tiny checkpoint: that both sides run, and that they say the same."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from model import checkpoint
from model.bench import engine, peer
from model.evaluate import asr
from tests.model import tiny


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny.safetensors"
    decoding = dataclasses.replace(tiny.CONFIG.decoding, max_new_tokens=12)
    checkpoint.save(tiny.model(3, decoding=decoding), tiny.tokenizer(), path)
    return path


def test_greedy_texts_equal_those_of_transformers(path: Path) -> None:
    rng = np.random.default_rng(0)
    windows = [rng.normal(0, 3000, samples).astype(np.int16) for samples in (9_000, 30_000, 16_001)]
    report = engine.run(path, windows, "cpu", threads=1, concurrent=(1, 2), repeats=1)
    assert [(row.way, row.concurrent) for row in report.rows] == [
        ("authors", 1), ("greedy", 1), ("greedy", 2), ("shipped", 1), ("shipped", 2),
    ]  # fmt: skip
    assert report.token_equal == report.texts == 6  # with a penalty of 1.0 and of 1.05
    assert report.audio_s == pytest.approx(55_001 / 16_000)
    with pytest.raises(ValueError, match="no windows"):
        engine.run(path, [], "cpu")


def test_a_missing_peer_is_said(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(peer.Missing, match="extra `bench`"):
        peer._assembled(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "faster_whisper", None)
    with pytest.raises(peer.Missing, match="extra `bench`"):
        peer.run(lambda files: [], [asr.Reference(tmp_path, "a")], tmp_path, 1)
