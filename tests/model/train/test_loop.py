"""One stage on a tiny model and made-up states: it learns, resumes bit by bit, and its batches are lawful."""

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model.features import log_mel
from model.train import loop, state
from model.train.batches import Job, draw, draw_one, epoch_batches, job, reordered
from model.train.cache import Asked, Item, Live, encode
from model.train.curves import Nobody
from model.train.dataset import Example, ShardWindows
from model.train.inputs import Batch, Preparer, stacked
from model.train.loop import Fitted, TrainingError, rate_at, trainable
from model.train.losses import Objective, Weights, ctc_sum, frames_needed, states_of
from model.train.probes import Probes
from model.train.recipe import PAPER_MIX
from model.train.state import STATE
from model.train.windows import QUESTIONS
from tests.model import tiny
from tests.model.train.states import LIVE, PARTS, items, make_shards, run, stage

Fit = Callable[..., Fitted]


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    make_shards(tmp_path / "features", 12)

    def fitted(folder: str, watcher: Nobody | None = None, changed: bool = False, **changes: Any) -> Fitted:
        windows = ShardWindows(tmp_path / "features", LIVE)
        return loop.fit(
            tiny.model(),
            tiny.tokenizer(),
            windows,
            stage(**changes),
            run(tmp_path / folder),
            watcher,
            changed=changed,
        )

    return fitted


class Killer(Nobody):
    """Stands for a kill in the middle of a run."""

    def report(self, done: int, values: Mapping[str, float], note: str) -> None:
        raise KeyboardInterrupt


def test_the_loss_falls_and_every_expert_works(fit: Fit) -> None:
    fitted = fit("run", steps=24)
    assert fitted.finished
    assert sum(fitted.losses[-4:]) < 0.75 * sum(fitted.losses[:4])
    assert (fitted.picks_E > 0).all()


def test_a_killed_run_takes_the_same_steps(fit: Fit, tmp_path: Path) -> None:
    """N steps are k steps and the rest, bit by bit, wherever the kill comes."""
    whole = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("killed", Killer(), report_every=3, save_every_s=0.0)
    # Killed after step 3, and its last state is that of step 2: step 3 is taken again.
    again = fit("killed")
    assert again.losses == whole.losses[-len(again.losses) :]
    assert 0 < len(again.losses) < 8
    want, found = (load_file(tmp_path / name / STATE) for name in ("whole", "killed"))
    assert want.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in want.items())


def test_a_stopped_run_goes_on_and_a_half_written_state_is_no_matter(fit: Fit, tmp_path: Path) -> None:
    whole = fit("whole")
    features, folder = ShardWindows(tmp_path / "features", LIVE), run(tmp_path / "stopped")
    first = loop.fit(tiny.model(), tiny.tokenizer(), features, stage(), folder, stop=lambda: True)
    assert (first.finished, first.losses) == (False, whole.losses[:1])
    (tmp_path / "stopped" / "state.part").write_bytes(b"\0" * 100)
    assert fit("stopped").losses == whole.losses[1:]


def test_a_changed_stage_is_refused_unless_it_is_meant(fit: Fit, tmp_path: Path) -> None:
    fit("run")
    with pytest.raises(TrainingError, match=r"rate 0\.003 → 0\.001"):
        fit("run", rate=1e-3, steps=8)
    assert len(fit("run", changed=True, steps=9).losses) == 1


def test_a_loss_that_is_no_number_leaves_the_good_state_alone(fit: Fit, tmp_path: Path) -> None:
    fit("run", steps=2)
    before = (tmp_path / "run" / STATE).read_bytes()
    with pytest.raises(TrainingError, match="no finite number"):
        fit("run", changed=True, rate=1e30, steps=6)
    assert (tmp_path / "run" / STATE).read_bytes() == before


def test_the_next_stage_takes_the_weights_and_new_moments(fit: Fit, tmp_path: Path) -> None:
    """A stage trains its parts alone: what is frozen comes through unchanged, bit by bit."""
    fit("run", steps=2)
    before = load_file(tmp_path / "run" / STATE)
    fit("run", name="decoder", train=("decoder",), steps=2, ctc=0.0, probes=0.0, jobs_per_window=1.0)
    after = load_file(tmp_path / "run" / STATE)
    weights = {name for name in before if name.startswith("weight.")}
    assert weights == {name for name in after if name.startswith("weight.")}
    changed = {name for name in weights if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("weight.decoder.") for name in changed)
    assert all(float(after[name]) == 2 for name in after if name.startswith("step."))
    assert {name.split(".")[1] for name in after if name.startswith("step.")} == {"decoder"}


def test_the_last_encoder_layers_learn_and_the_lower_ones_stay() -> None:
    model = tiny.model(audio=dataclasses.replace(tiny.CONFIG.audio, layers=LIVE + 1))

    def learning(live: Live) -> set[str]:
        names = trainable(model, frozenset({"encoder"}), live)
        return {".".join(name.split(".")[1:3]) for name in names if "layers." in name or "conv" in name}

    assert learning(0) == set()
    assert learning(LIVE) == {"layers.1", "layers.2"}
    assert {"layers.0", "conv1.weight", "conv2.bias"} <= learning("all")
    assert not any("embed_positions" in name for name in trainable(model, PARTS, "all"))
    everything = {name for name, _ in model.named_parameters()}
    assert everything - trainable(model, PARTS, "all").keys() == {"audio_encoder.embed_positions.weight"}


def test_the_rate_rises_stays_and_falls() -> None:
    config = stage(steps=100, rate=1.0, warmup_steps=10, decay_steps=20)
    assert rate_at(config, 0) == pytest.approx(0.1)
    assert rate_at(config, 50) == 1.0
    assert rate_at(config, 90) == pytest.approx(0.5)


def test_batches_hold_every_window_and_keep_the_budget() -> None:
    made = items(12)
    batches = epoch_batches(made, 320, "1", 0, {})
    assert sorted(i for batch in batches for i in batch) == list(range(12))
    assert all(len(b) * max(made[i].frames for i in b) <= 320 for b in batches)
    assert batches == epoch_batches(made, 320, "1", 0, {})
    assert batches != epoch_batches(made, 320, "1", 1, {})
    assert sum(map(len, epoch_batches(made, 320, "1", 0, {"test": 3}))) == 36
    short = epoch_batches(made, 320, "1", 0, {}, longest_frames=80)
    assert sorted(i for batch in short for i in batch) == [0, 4, 8]


def test_only_known_answers_are_asked_for() -> None:
    silent = Item("a", 80, None, None, {"sound": "music"}, "test")
    for seed in range(10):
        (_, asked), *rest = draw([silent], PAPER_MIX, 0.1, random.Random(seed))
        assert not rest
        assert job(asked, 80).answer == "B"
        assert "B. music" in job(asked, 80).prompt
    assert draw_one(silent, {"asr": 1.0, "paralinguistic": 0.0}, random.Random(0)) is None
    assert draw([silent], PAPER_MIX, 0.0, random.Random(0)) == []


def test_a_manifests_choices_are_asked_in_another_order_and_ours_are_not() -> None:
    rng, ours = random.Random(1), QUESTIONS[0]
    asked = Asked("paralinguistic", "Which?", "b", ("a", "b", "c", "d"))
    orders = {reordered(asked, rng).choices for _ in range(50)}
    assert len(orders) > 10
    assert {tuple(sorted(order)) for order in orders} == {asked.choices}
    for _ in range(10):
        one = reordered(asked, rng)
        assert job(one, 80).answer == "ABCD"[one.choices.index("b")]
        assert (
            reordered(Asked("paralinguistic", ours.prompt, "male", ours.choices), rng).choices == ours.choices
        )


def test_texts_that_do_not_fit_the_frames_are_left_out() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    short = Example(Item("a", 8, "please hold the line please hold", None, {}, "test"), torch.randn(8, 32))
    adapted = model.adapt(states_of(model, LIVE, stacked([short], LIVE)))
    loss, tokens = ctc_sum(model, [tokenizer.encode(short.item.text or "")], [2], adapted)
    assert (loss.item(), tokens.item()) == (0.0, 0.0)
    assert frames_needed([1, 1, 2]) == 4


def test_padding_changes_no_loss() -> None:
    model, tokenizer = tiny.model(), tiny.tokenizer()
    generator = torch.Generator().manual_seed(1)
    clips = [
        Example(Item(str(n), n, "hold", None, {}, "test"), torch.randn(n, 32, generator=generator))
        for n in (40, 80)
    ]
    objective = Objective(model, Probes(48), LIVE, Weights(1.0, 0.0, 0.0), lambda value: value)
    prepare = Preparer(tokenizer, LIVE, model.config.tokens.im_end, model.config.audio.d_model)

    def loss(examples: list[Example]) -> float:
        pads = ["<|audio_pad|>" * (example.item.frames // 4) for example in examples]
        jobs = [(i, Job(f"<|audio_start|>{pad}<|audio_end|>", "hold")) for i, pad in enumerate(pads)]
        whole, shares, _ = objective(prepare(Batch(examples, jobs)))
        assert shares[1].item() > 0
        assert shares[2].item() > 0
        return float(whole.item())

    assert loss(clips) == pytest.approx((loss(clips[:1]) + loss(clips[1:])) / 2, rel=1e-4)


@pytest.mark.parametrize("live", [0, LIVE, "all"])
def test_cached_states_lead_to_what_the_engine_computes(live: Live) -> None:
    """Whatever the boundary between the frozen and the trained part of the encoder: in fp16 rounding, no more."""
    model = tiny.model(audio=dataclasses.replace(tiny.CONFIG.audio, layers=LIVE + 1))
    generator = torch.Generator().manual_seed(0)
    waves = [(torch.randn(n, generator=generator) * 0.1).clamp(-1, 0.99) for n in (16_000, 9_000)]
    waves = [(wave * 32768).round() / 32768 for wave in waves]
    with torch.inference_mode():
        states = [encode(model.audio_encoder, wave.numpy(), live) for wave in waves]
        frames = [len(one) // (2 if live == "all" else 1) for one in states]
        examples = [
            Example(Item(str(i), count, "", None, {}, "test"), one)
            for i, (one, count) in enumerate(zip(states, frames, strict=True))
        ]
        found = states_of(model, live, stacked(examples, live))
        want = model.encode([log_mel(wave, 80) for wave in waves])
    assert torch.equal(found.tokens_B, want.tokens_B)
    for row, tokens in enumerate(want.tokens_B.tolist()):
        torch.testing.assert_close(
            found.states_BLD[row, : 4 * tokens], want.states_BLD[row, : 4 * tokens], atol=3e-2, rtol=3e-2
        )


def test_the_state_says_what_it_is(fit: Fit, tmp_path: Path) -> None:
    fit("run", steps=1)
    position, config = state.position(tmp_path / "run")
    assert (position.stage, position.step, position.parts) == ("joint", 1, ("test-00000.safetensors",))
    assert json.loads(config)["rate"] == 3e-3
