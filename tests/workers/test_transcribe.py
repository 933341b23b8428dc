"""Files without a broker: the windows a worker would cut, whatever the container; bad files refused."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from streams.errors import Reject
from streams.messages import Caption, DeadLetter, Event, Transcript
from streams.windows import CutterConfig
from tests.streams.sound import talk
from tests.workers import engines
from workers.recordings import write_wav
from workers.results import TASKS
from workers.transcribe import transcribe, windows

CONFIG = CutterConfig(max_window_s=8)
RATE = 8_000


def recording(path: Path, *plans: list[float]) -> Path:
    """A WAV file with one channel per plan: voices (positive seconds) and quiet lines (negative seconds)."""
    channels = [talk(plan, seed, RATE) for seed, plan in enumerate(plans)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.stack(channels, axis=1).astype("<i2").tobytes())
    return path


def test_the_results_of_a_file_cover_its_speech_and_its_scenes(tmp_path: Path) -> None:
    path = recording(tmp_path / "call.wav", [-1, 2, -5, 2, -2], [-4, 2, -6])
    found = list(transcribe([path], engines.Hashing("cpu"), CONFIG))
    cut = list(windows(path, CONFIG))
    texts = [m.text for m in found if isinstance(m, Transcript | Caption)]
    assert texts == [engines.text_of(w.audio, TASKS[w.track]) for w in cut]
    assert {m.stream_id for m in found} == {"call.wav"}
    assert {m.event_type for m in found if isinstance(m, Event)} >= {"music", "loudness"}
    assert len([w for w in cut if w.track == "scene"]) == 4
    speech = sorted((w for w in cut if w.track == "speech"), key=lambda w: w.start_sample)
    assert [w.channel for w in speech] == [0, 1, 0]
    for w, start_s in zip(speech, (1, 4, 8), strict=True):
        assert w.start_sample <= start_s * 16_000 < (start_s + 1.5) * 16_000 < w.end_sample


def test_a_file_of_eight_channels_is_cut(tmp_path: Path) -> None:
    path = recording(tmp_path / "eight.wav", *[[-1.0, 1.0]] * 8)
    assert {w.channel for w in windows(path, CONFIG) if w.track == "scene"} == set(range(8))


def test_files_of_one_name_are_streams_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files = [recording(tmp_path / name, [-1, 1]) for name in ("0.wav", "other/0.wav")]
    found = transcribe(files, engines.Hashing("cpu"), CONFIG)
    assert {m.stream_id for m in found} == {"0.wav", "0.wav-2"}


def test_what_the_model_refuses_becomes_a_dead_letter(tmp_path: Path) -> None:
    class Refusing(engines.Hashing):
        def _answer(self, request):
            return engines.Response(request.request_id, (), "refused")

    found = list(transcribe([recording(tmp_path / "a.wav", [-1, 2])], Refusing("cpu"), CONFIG))
    assert found
    assert all(isinstance(m, DeadLetter) and m.reason == "poison" for m in found)


@pytest.mark.parametrize("content", [b"", b"this is not audio" * 100])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(content)
    with pytest.raises(Reject, match="decode"):
        list(transcribe([path, path], engines.Hashing("cpu"), CONFIG))


def test_a_file_without_a_sample_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "nothing.wav", np.zeros((1, 0), np.int16))
    with pytest.raises(Reject, match="without a sample"):
        list(transcribe([tmp_path / "nothing.wav"], engines.Hashing("cpu"), CONFIG))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="No such file"):
        list(transcribe([tmp_path / "none.wav"], engines.Hashing("cpu"), CONFIG))
