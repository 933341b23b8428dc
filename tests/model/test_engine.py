"""The engine on a tiny checkpoint: what it answers, what it refuses, and that batches do not matter."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model import checkpoint, device
from model.answers import ChoiceAnswer, Request, TextAnswer
from model.engine import Engine
from tests.model import tiny


def open_tiny(folder: Path, seed: int = 0, **changes: object) -> Engine:
    path = folder / "tiny.safetensors"
    decoding = dataclasses.replace(
        tiny.CONFIG.decoding, max_new_tokens=24, speech_threshold=0.0, repetition_penalty=1.1
    )
    checkpoint.save(tiny.model(seed, **{"decoding": decoding, **changes}), tiny.tokenizer(), path)
    return Engine.open(path, device="cpu", threads=1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return open_tiny(tmp_path_factory.mktemp("engine"))


def window(samples: int, seed: int, *tasks: str) -> Request:
    audio = np.random.default_rng(seed).normal(0, 3000, samples).astype(np.int16)
    return Request(f"w{seed}", audio, tasks)


def test_answers_come_in_the_order_of_the_tasks(engine: Engine) -> None:
    tasks = ("caption", "questions:scene", "transcript", "question:line")
    (response,) = engine.run([window(20_000, 1, *tasks)])
    assert response.error is None
    assert [a.task for a in response.answers] == ["caption", "question:sound", "transcript", "question:line"]
    caption, sound, transcript, line = response.answers
    assert isinstance(caption, TextAnswer)
    assert caption.words is None
    assert isinstance(transcript, TextAnswer)
    assert transcript.timing_source == "ctc"
    assert transcript.words is not None
    assert all(0 <= w.start_ms <= w.end_ms <= 1250 for w in transcript.words)
    for answer, choices in ((sound, ("speech", "music", "silence")), (line, ("telephone", "wideband"))):
        assert isinstance(answer, ChoiceAnswer)
        assert tuple(answer.probabilities) == choices
        assert sum(answer.probabilities.values()) == pytest.approx(1.0, abs=1e-3)
        assert answer.probabilities[answer.label] == max(answer.probabilities.values())


def test_a_text_does_not_depend_on_its_batch(engine: Engine) -> None:
    lengths = (500, 16_000, 70_000, 33_333, 1280, 48_000, 8_000, 24_000, 100_000, 9_999)
    requests = [
        window(n, i, *(("transcript", "questions:speech") if i % 2 else ("caption", "questions:scene")))
        for i, n in enumerate(lengths)
    ]
    together = engine.run(requests)
    assert engine.run(requests[::-1])[::-1] == together
    assert [engine.run([request])[0] for request in requests] == together
    texts = [a.text for r in together for a in r.answers if isinstance(a, TextAnswer)]
    assert len(set(texts)) > 2  # the audio does matter


def test_a_bad_request_fails_alone(engine: Engine) -> None:
    good = window(16_000, 3, "transcript")
    batch = [
        good,
        window(0, 4, "transcript"),
        window(480_001, 5, "transcript"),
        window(16_000, 6, "translate"),
        window(16_000, 7, "question:nothing"),
        Request("w8", np.full(16_000, np.nan), ("transcript",)),
        dataclasses.replace(good, request_id="last"),
    ]
    responses = engine.run(batch)
    assert [r.request_id for r in responses] == [r.request_id for r in batch]
    assert [r.error is None for r in responses] == [True, False, False, False, False, False, True]
    assert responses[0].answers == responses[-1].answers == engine.run([good])[0].answers
    assert [r.error for r in responses[1:6]] == [
        "audio of 0 samples; 1 to 480000 are possible",
        "audio of 480001 samples; 1 to 480000 are possible",
        "unknown task translate",
        "unknown task question:nothing",
        "audio must be int16 of one dimension, not float64 of 1",
    ]
    assert not any(r.answers for r in responses[1:6])


def test_thirty_seconds_and_nothing_to_do(engine: Engine) -> None:
    (full,) = engine.run([window(480_000, 1, "questions:scene")])
    assert full.error is None
    assert engine.run([]) == []
    (idle,) = engine.run([window(16_000, 2)])
    assert (idle.answers, idle.error) == ((), None)


def test_no_transcript_without_speech_evidence(tmp_path: Path) -> None:
    decoding = dataclasses.replace(tiny.CONFIG.decoding, speech_threshold=1.1)
    engine = open_tiny(tmp_path, decoding=decoding)
    (response,) = engine.run([window(16_000, 1, "transcript")])
    (answer,) = response.answers
    assert isinstance(answer, TextAnswer)
    assert (answer.text, answer.words, answer.language) == ("", (), None)


def test_without_a_ctc_head_there_are_no_word_times(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path, ctc=False)
    (response,) = engine.run([window(16_000, 1, "transcript")])
    (answer,) = response.answers
    assert isinstance(answer, TextAnswer)
    assert (answer.words, answer.timing_source) == (None, None)


def test_padding_to_30_s_is_followed(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path, pad_to_30s=True)
    (response,) = engine.run([window(16_000, 1, "transcript", "caption")])
    assert response.error is None


def test_numbers_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path)
    engine.model.audio_encoder.layer_norm.weight[0] = np.nan
    (response,) = engine.run([window(16_000, 1, "transcript")])
    assert response.error == "the model yields no finite numbers for this audio"


def test_the_audio_is_neither_kept_nor_changed(engine: Engine) -> None:
    request = window(16_000, 9, "transcript")
    before = request.audio.copy()
    request.audio.flags.writeable = False
    first = engine.run([request])
    request.audio.flags.writeable = True
    np.testing.assert_array_equal(request.audio, before)
    request.audio[:] = 0
    assert engine.run([dataclasses.replace(request, audio=before)]) == first


def test_name_version_and_warm_up(engine: Engine) -> None:
    engine.warm_up()
    assert engine.name == "tiny"
    assert engine.version.startswith("1+")
    assert len(engine.version) == 10
    assert [question.name for question in engine.questions] == ["sound", "line"]


def test_the_path_of_a_gpu_gives_the_same_answers(engine: Engine, tmp_path: Path) -> None:
    """Windows encoded together, as on a GPU, against one by one: the same up to rounding."""
    together = open_tiny(tmp_path)
    together.on_cpu = False
    requests = [window(n, i, "questions:scene") for i, n in enumerate((9_000, 48_000, 20_000))]
    for ours, theirs in zip(together.run(requests), engine.run(requests), strict=True):
        (a,), (b,) = ours.answers, theirs.answers
        assert isinstance(a, ChoiceAnswer)
        assert isinstance(b, ChoiceAnswer)
        assert a.probabilities == pytest.approx(b.probabilities, abs=2e-3)


def test_bf16_runs_every_path(tmp_path: Path) -> None:
    open_tiny(tmp_path)
    loaded = checkpoint.load(tmp_path / "tiny.safetensors", dtype=torch.bfloat16)
    placement = dataclasses.replace(device.choose("cpu"), dtype=torch.bfloat16)
    half = Engine(loaded, placement, threads=1)
    tasks = ("transcript", "caption", "questions:speech", "questions:scene")
    (response,) = half.run([window(30_000, 1, *tasks)])
    assert response.error is None
    assert len(response.answers) == 4


def test_device_choice() -> None:
    assert device.choose("cpu").reason == "asked for"
    with pytest.raises(ValueError, match="only cpu and cuda"):
        device.choose("meta")
