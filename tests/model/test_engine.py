"""The engine on a tiny checkpoint: what it answers, what it refuses, and that batches do not matter."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from model import analyst, checkpoint, device, generate
from model.analyst import Window
from model.answers import ChoiceAnswer, Request, Response, TextAnswer
from model.engine import Engine
from model.tokenizer import clean
from tests.model import tiny, tracing


def open_tiny(
    folder: Path,
    threads: int = 1,
    slots: int | None = None,
    compile: bool | None = None,
    half: bool | None = None,
    **changes: object,
) -> Engine:
    path = folder / "tiny.safetensors"
    decoding = dataclasses.replace(
        tiny.CONFIG.decoding,
        max_new_tokens=24,
        speech_threshold=0.0,
        repetition_penalty=1.1,
        min_confidence=0.0,
    )
    checkpoint.save(tiny.model(**{"decoding": decoding, **changes}), tiny.tokenizer(), path)
    return Engine.open(path, device="cpu", threads=threads, slots=slots, compile=compile, half=half)


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
    lengths = (500, 16_000, 400_000, 70_000, 33_333, 1280, 48_000, 8_000, 24_000, 100_000, 9_999)
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


def test_the_limits_are_those_of_the_configuration_given(tmp_path: Path) -> None:
    """As `model.full_geometry` shortens what a checkpoint may write."""
    engine = open_tiny(tmp_path, ctc=False)
    loaded = checkpoint.load(tmp_path / "tiny.safetensors")
    decoding = dataclasses.replace(loaded.config.decoding, max_new_tokens=3)
    loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, decoding=decoding))
    short = Engine(loaded, engine.placement, threads=1)
    written: list[str] = []
    short.on_token = lambda _, task, token: written.append(task)
    short.run([window(16_000, seed, "transcript", "caption") for seed in range(4)])
    assert 8 <= len(written) <= 8 * 3


def test_without_that_padding_a_window_is_encoded_at_its_own_length(tmp_path: Path) -> None:
    padded = open_tiny(tmp_path, pad_to_30s=True)
    short = Engine.open(tmp_path / "tiny.safetensors", device="cpu", threads=1, short_buckets=True)
    lengths = []
    for engine in (padded, short):
        encoder = engine.model.audio_encoder
        encoder.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[2]))
        (response,) = engine.run([window(16_000, 1, "questions:speech")])
        assert response.error is None
    assert lengths == [3000, 104]


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


def finish(engine: Engine, found: list[str] | None = None) -> dict[str, Response]:
    """Step until everything submitted is answered; `found` gets the ids in the order of their answers."""
    answers: dict[str, Response] = {}
    while engine.busy:
        for response in engine.step():
            answers[response.request_id] = response
            if found is not None:
                found.append(response.request_id)
    return answers


def test_work_that_comes_later_does_not_wait_for_the_end_of_what_runs(engine: Engine) -> None:
    long = next(w for w in (window(16_000, seed, "caption") for seed in range(30)) if lengthy(engine, w))
    short = window(16_000, 77, "transcript")
    engine.submit(long)
    assert engine.step() == []  # looked at, first token decoded
    engine.submit(short)
    order: list[str] = []
    answers = finish(engine, order)
    assert order == ["w77", long.request_id]
    assert [answers[name] for name in order] == [*engine.run([short]), *engine.run([long])]
    assert not engine.busy


def lengthy(engine: Engine, request: Request) -> bool:
    """Whether the caption of this window takes all tokens it may."""
    (response,) = engine.run([request])
    return len(texts(response)[0]) > 10


def test_what_is_due_first_is_looked_at_first(engine: Engine) -> None:
    for seed, due_s in ((1, 30.0), (2, 10.0), (3, 20.0)):
        engine.submit(dataclasses.replace(window(16_000, seed, "questions:speech"), due_s=due_s))
    order: list[str] = []
    finish(engine, order)
    assert order == ["w2", "w3", "w1"]


def test_captions_never_hold_all_slots(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path, slots=4, ctc=False)  # transcripts are decoded in slots too
    for seed in range(6):
        engine.submit(window(8_000, seed, "caption"))
    for _ in range(6):
        engine.step()
    assert engine.generator.free == 2
    engine.submit(window(8_000, 9, "transcript"))
    engine.step()
    assert engine.generator.free == 1
    assert set(finish(engine)) == {*(f"w{seed}" for seed in range(6)), "w9"}


def test_what_the_decoder_writes_can_be_followed(tmp_path: Path) -> None:
    engine = open_tiny(tmp_path, ctc=False)
    heard: dict[tuple[str, str], list[int]] = {}
    engine.on_token = lambda name, task, token: heard.setdefault((name, task), []).append(token)
    requests = [window(16_000, seed, "transcript", "caption") for seed in range(3)]
    for request in requests:
        engine.submit(request)
    answers = finish(engine)
    ends = engine.generator.stop_ids
    for (name, task), tokens in heard.items():
        text = clean(engine.tokenizer.decode([token for token in tokens if token not in ends]))
        (answer,) = [a for a in answers[name].answers if a.task == task]
        assert isinstance(answer, TextAnswer)
        assert text.startswith(answer.text)  # a loop is cut from the answer
    assert len(heard) == 6


def test_threads_change_no_bit(engine: Engine, tmp_path: Path) -> None:
    several = open_tiny(tmp_path, threads=3)
    tasks = ("transcript", "caption", "questions:scene")
    requests = [window(3_000 + 7_001 * i % 50_000, i, *tasks) for i in range(12)]
    assert several.run(requests) == engine.run(requests)


def test_an_exception_in_a_helper_thread_is_raised_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_tiny(tmp_path, threads=2)
    monkeypatch.setattr(engine.analyst, "look", lambda _: (_ for _ in ()).throw(RuntimeError("broken")))
    for seed in range(5):
        engine.submit(window(16_000, seed, "transcript"))
    with pytest.raises(RuntimeError, match="broken"):
        finish(engine)


def test_with_threads_nothing_is_lost_when_work_comes_bit_by_bit(engine: Engine, tmp_path: Path) -> None:
    several = open_tiny(tmp_path, threads=2)
    requests = [window(2_000 + 997 * i, i, "transcript", "questions:scene") for i in range(60)]
    answers: dict[str, Response] = {}
    for request in requests:
        several.submit(request)
        answers |= {response.request_id: response for response in several.step()}
    answers |= finish(several)
    assert [answers[request.request_id] for request in requests] == engine.run(requests)
    assert not several.busy


def test_short_of_memory_fewer_windows_are_looked_at_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_tiny(tmp_path, half=False)
    other = together_on_cpu(tmp_path)
    look, sizes = other.analyst.look, []

    def cramped(requests: list[Request]) -> list[Window | None]:
        sizes.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("no room")
        return look(requests)

    monkeypatch.setattr(other.analyst, "look", cramped)
    requests = [window(16_000, i, "questions:speech") for i in range(7)]
    found = other.run(requests)
    assert [choices(r)[0].label for r in found] == [choices(r)[0].label for r in engine.run(requests)]
    assert sizes == [7, 3, 1, 2, 4, 2, 2]
    monkeypatch.setattr(
        other.analyst, "look", lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("none"))
    )
    other.submit(requests[0])
    with pytest.raises(torch.OutOfMemoryError):  # the process ends and is replaced
        other.step()


@tracing.OF_TORCH_ITSELF
@pytest.mark.timeout(600)  # a minute of the C++ compiler where nothing else runs
def test_compiled_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One shape of those that there are, for the time that each takes to compile.
    monkeypatch.setattr(analyst, "FRAME_BUCKETS", (1504,))
    monkeypatch.setattr(generate, "FIRST_KEY_BUCKET", 1024)
    torch._dynamo.reset()
    compiles_nothing_after_the_warm_up(tmp_path)


@tracing.OF_TORCH_ITSELF
def test_every_shape_is_compiled_in_the_warm_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyst, "FRAME_BUCKETS", (400, 1504))
    monkeypatch.setattr(generate, "FIRST_KEY_BUCKET", 512)
    tracing.trace_only(monkeypatch)
    compiles_nothing_after_the_warm_up(tmp_path)


def compiles_nothing_after_the_warm_up(folder: Path) -> None:
    compiled = open_tiny(folder, compile=True, half=False)
    compiled.warm_up()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    torch._dynamo.utils.counters.clear()
    plain = open_tiny(folder, half=False)
    tasks = ("transcript", "caption", "questions:scene", "questions:speech")
    for ours, theirs in zip(*(e.run(windows(tasks)) for e in (compiled, plain)), strict=True):
        assert ours.error is None
        assert texts(ours) == texts(theirs)
        for a, b in zip(choices(ours), choices(theirs), strict=True):
            assert a.probabilities == pytest.approx(b.probabilities, abs=1e-3)
    assert not torch._dynamo.utils.counters["graph_break"]
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]


def windows(tasks: tuple[str, ...]) -> list[Request]:
    return [window(samples, i, *tasks) for i, samples in enumerate((1_000, 16_000, 50_000, 20_480, 130_000))]


def texts(response: Response) -> list[str]:
    return [answer.text for answer in response.answers if isinstance(answer, TextAnswer)]


def choices(response: Response) -> list[ChoiceAnswer]:
    return [answer for answer in response.answers if isinstance(answer, ChoiceAnswer)]


def test_the_path_of_a_gpu_gives_the_same_answers(tmp_path: Path) -> None:
    """Windows encoded together, as on a GPU, against one by one: the same up to rounding."""
    engine = open_tiny(tmp_path, half=False)
    together = together_on_cpu(tmp_path)
    requests = windows(("transcript", "caption", "questions:scene"))
    for ours, theirs in zip(together.run(requests), engine.run(requests), strict=True):
        assert texts(ours) == texts(theirs)
        for a, b in zip(choices(ours), choices(theirs), strict=True):
            assert a.probabilities == pytest.approx(b.probabilities, abs=2e-3)


def together_on_cpu(folder: Path) -> Engine:
    """An engine that looks at windows and prefills prompts together, as on a GPU."""
    engine = open_tiny(folder, half=False)
    placement = dataclasses.replace(engine.placement, windows=8)
    path = folder / "tiny.safetensors"
    return Engine(checkpoint.load(path), placement, threads=1)


def test_bf16_runs_every_path(tmp_path: Path) -> None:
    open_tiny(tmp_path)
    loaded = checkpoint.load(tmp_path / "tiny.safetensors", dtype=torch.bfloat16)
    placement = dataclasses.replace(device.choose("cpu", half=False), dtype=torch.bfloat16)
    half = Engine(loaded, placement, threads=1)
    tasks = ("transcript", "caption", "questions:speech", "questions:scene")
    (response,) = half.run([window(30_000, 1, *tasks)])
    assert response.error is None
    assert len(response.answers) == 4


def test_device_choice() -> None:
    assert device.choose("cpu").reason == "asked for"
    with pytest.raises(ValueError, match="only cpu and cuda"):
        device.choose("meta")
