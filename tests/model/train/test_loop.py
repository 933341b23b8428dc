"""The loop on a tiny model and made-up states: it learns, resumes exactly, and its batches are lawful."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model import checkpoint
from model.features import log_mel
from model.train import build, cache, loop
from model.train.batches import Example, Job, draw_jobs, epoch_batches, load_examples
from model.train.cache import LIVE_LAYERS, Item
from model.train.loop import TrainConfig, rate_at
from model.train.losses import batch_losses, ctc_loss, frames_needed, states_of
from model.train.probes import Probes
from tests.model import tiny

TEXTS = ("please hold", "the line", "")


def items(count: int) -> list[Item]:
    found = []
    for i in range(count):
        text = TEXTS[i % 3]
        sound = "speech" if text else "music"
        found.append(Item(f"id{i}", 80 + 8 * (i % 4), text, f"{sound}.", {"sound": sound}, "test"))
    return found


def make_shards(folder: Path, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    made = items(count)
    patterns = torch.randn(3, 100, 32, generator=generator)
    states = [patterns[i % 3][torch.arange(item.frames) % 100] for i, item in enumerate(made)]
    folder.mkdir()
    cache._write(folder / "test-00000.safetensors", made, [s.half() for s in states])


class Stopped(Exception):
    """Stands for a kill in the middle of a run."""


Fit = Callable[..., list[float]]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    make_shards(tmp_path / "features", 12)

    def run(name: str, steps: int, report: Callable[[str], None] = lambda line: None) -> list[float]:
        config = TrainConfig(
            steps=steps,
            ctc_steps=3,
            budget_frames=400,
            rate=3e-3,
            warmup_steps=2,
            decay_steps=1,
            save_every_s=0.0,
            report_every=5,
        )
        return loop.fit(
            tiny.model(), tiny.tokenizer(), tmp_path / "features", tmp_path / name, config, report
        )

    return run


def test_the_loss_falls(fit: Fit) -> None:
    losses = fit("run", 24)
    assert losses[2] < losses[0]  # CTC alone
    assert sum(losses[-4:]) < 0.75 * sum(losses[3:7])  # with the decoder


def test_a_resumed_run_takes_the_same_steps(fit: Fit, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise Stopped(line)

    whole = fit("whole", 8)
    with pytest.raises(Stopped, match="step 5/8"):
        fit("killed", 8, stop)
    # Killed after step 5 and before its state was saved: steps 5 to 8 are taken again.
    assert fit("killed", 8) == whole[4:]
    want, found = (load_file(tmp_path / name / loop.STATE) for name in ("whole", "killed"))
    assert all(torch.equal(found[name], value) for name, value in want.items())


def test_the_rate_rises_stays_and_falls() -> None:
    config = TrainConfig(steps=100, ctc_steps=0, rate=1.0, warmup_steps=10, decay_steps=20)
    assert rate_at(config, 0) == pytest.approx(0.1)
    assert rate_at(config, 50) == 1.0
    assert rate_at(config, 90) == pytest.approx(0.5)


def test_batches_hold_every_window_and_keep_the_budget(tmp_path: Path) -> None:
    make_shards(tmp_path / "features", 12)
    examples = load_examples([tmp_path / "features" / "test-00000.safetensors"])
    batches = epoch_batches(examples, 320, seed=1, epoch=0)
    assert sorted(i for batch in batches for i in batch) == list(range(12))
    assert all(len(b) * max(examples[i].item.frames for i in b) <= 320 for b in batches)
    assert batches == epoch_batches(examples, 320, seed=1, epoch=0)
    assert batches != epoch_batches(examples, 320, seed=1, epoch=1)


def test_only_known_answers_are_asked_for() -> None:
    silent = Item("a", 80, None, None, {"sound": "music"}, "test")
    for index in range(10):
        job = draw_jobs([silent], 0.1, seed=1, epoch=0, index=index)[0][1]
        assert job.answer == "B"
        assert "B. music" in job.prompt


def test_texts_that_do_not_fit_the_frames_are_left_out() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    short = Example(Item("a", 8, "please hold the line please hold", None, {}, "test"), torch.randn(8, 32))
    loss = ctc_loss(model, tokenizer, [short.item.text], model.adapt(states_of(model, [short], None)))
    assert loss.item() == 0.0
    assert frames_needed([1, 1, 2]) == 4


def test_padding_changes_no_loss() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    generator = torch.Generator().manual_seed(1)
    clips = [
        Example(Item(str(n), n, "hold", None, {}, "test"), torch.randn(n, 32, generator=generator))
        for n in (40, 80)
    ]

    def loss(examples: list[Example]) -> float:
        pads = ["<|audio_pad|>" * (example.item.frames // 4) for example in examples]
        jobs = [(i, Job(f"<|audio_start|>{pad}<|audio_end|>", "hold")) for i, pad in enumerate(pads)]
        parts = batch_losses(model, Probes(48), tokenizer, examples, jobs, states_of(model, examples, None))
        assert parts.decoder is not None
        return (parts.ctc + parts.decoder).item()

    assert loss(clips) == pytest.approx((loss(clips[:1]) + loss(clips[1:])) / 2, rel=1e-4)


def test_a_run_may_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(tiny.model(), tiny.tokenizer(), path)
    model, tokens = build.untrained(tmp_path / "run", tmp_path / "no-encoder", seed=2, start=path)
    saved = checkpoint.load(path).model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.ctc_head.parameters())  # type: ignore[union-attr]
    assert build.run_tokenizer(tmp_path / "run").to_json() == tokens.to_json()
    (tmp_path / "run" / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the tokenizer"):
        build.untrained(tmp_path / "run", tmp_path / "no-encoder", seed=2, start=path)


def test_the_last_encoder_layers_learn_and_the_lower_ones_stay(fit: Fit, tmp_path: Path) -> None:
    fit("run", 4)
    saved = load_file(tmp_path / "run" / loop.STATE)
    encoder = {name.removeprefix("weight.audio_encoder.") for name in saved if "weight.audio_encoder" in name}
    model = tiny.model(audio=dataclasses.replace(tiny.CONFIG.audio, layers=LIVE_LAYERS + 1))
    loop.freeze_below(model)
    layers = [name for name, p in model.audio_encoder.named_parameters() if p.requires_grad]
    assert {name.split(".")[1] for name in layers if name.startswith("layers.")} == {"1", "2"}
    assert "layer_norm.weight" in encoder
    before = tiny.model().audio_encoder.state_dict()
    assert any(not torch.equal(saved[f"weight.audio_encoder.{name}"], before[name]) for name in encoder)
    assert not any(name.startswith(("conv", "embed")) for name in encoder)


def test_cached_states_lead_to_what_the_engine_computes() -> None:
    model = tiny.model(audio=dataclasses.replace(tiny.CONFIG.audio, layers=LIVE_LAYERS + 1))
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 3000 for n in (16_000, 9_000)]
    mels = [log_mel(wave / 32768, 80) for wave in waves]
    encoder = model.audio_encoder
    with torch.inference_mode():
        below = [encoder.below(mel[None], None, LIVE_LAYERS)[0] for mel in mels]
        examples = [
            Example(Item(str(i), len(states), "", None, {}, "test"), states) for i, states in enumerate(below)
        ]
        found, want = states_of(model, examples, None), model.encode(mels)
    assert torch.equal(found.tokens_B, want.tokens_B)
    for row, tokens in enumerate(want.tokens_B.tolist()):
        torch.testing.assert_close(
            found.states_BLD[row, : 4 * tokens], want.states_BLD[row, : 4 * tokens], atol=1e-5, rtol=1e-5
        )
