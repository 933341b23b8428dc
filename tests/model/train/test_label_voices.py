"""Who reads, by pitch: only where it is clear."""

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.dataflux import ablation
from model.train import label_voices, sets, sources


@pytest.mark.parametrize(
    ("hz", "said"), [(100.0, "male"), (144.0, "male"), (160.0, None), (176.0, "female"), (None, None)]
)
def test_only_a_clear_pitch_says_who_reads(hz: float | None, said: str | None) -> None:
    assert label_voices.sex(hz) == said


def test_readers_are_labelled_by_pitch(tmp_path: Path) -> None:
    seconds = np.arange(32_000) / 16_000
    for name, hz in (("low", 110.0), ("high", 220.0)):
        tone = sum(np.sin(2 * np.pi * hz * k * seconds) / k for k in range(1, 8)) * 8000
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as out:
            out.setparams((1, 2, 16_000, 0, "NONE", ""))
            out.writeframes(np.asarray(tone, "<i2").tobytes())
    index = tmp_path / "read.json"
    items = [{"file": f"{name}.wav", "text": "read by a machine", "seconds": 1.6} for name in ("low", "high")]
    index.write_text(json.dumps(items), encoding="utf-8")
    assert label_voices.label(index) == {"male": 1, "female": 1}
    assert [entry.sex for entry in sources.read_speech(index)] == ["male", "female"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (label_voices.main, ["none.json"]),
        (sets.main, ["clips", "--work", "none", "--data", "none", "--out", "none"]),
        (ablation.main, ["--work", "w", "--start", "s", "--data", "none", "--train", "t", "--test", "t"]),
    ],
)
def test_what_is_not_there_is_one_line(command: Callable[[list[str]], None], arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"^error: .*none") as ended:
        command(arguments)
    assert "\n" not in str(ended.value)
