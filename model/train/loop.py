"""The training loop: resumable, one stage after the other.

In: cached shards, the frozen encoder, a tokenizer, a `TrainConfig`. Out: `state.safetensors` in the run's folder
(weights, optimizer moments, position) and a line of progress per report; `export` makes a checkpoint of it.
Knows no audio. Invariant: a run that is stopped and resumed takes the same steps as one that was not, as long as the
shards are the same; shards that appear later join at the next epoch.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.eureka import Eureka
from model.tokenizer import Tokenizer
from model.train.batches import Example, Job, draw_jobs, epoch_batches, load_examples
from model.train.cache import LIVE_LAYERS
from model.train.losses import batch_losses, states_of
from model.train.probes import Probes

STATE = "state.safetensors"


@dataclass(frozen=True)
class TrainConfig:
    """Steps 0 … ctc_steps train the encoder's last layers, adapter and CTC head, then the decoder with them.

    The encoder's rate is `encoder_factor` times the others'. `bf16`: products in bf16, weights and moments in fp32.

    The decoder, the dear part, gets `decoder_jobs` tasks per window on average; CTC sees every window.
    `decoder_only` leaves all else as it is (a stage of its own, cheap on windows of at most `longest_frames`).
    The rate rises over `warmup_steps`, stays, and falls linearly to zero over the last `decay_steps`.
    """

    steps: int
    ctc_steps: int
    decoder_jobs: float = 0.8
    decoder_only: bool = False
    longest_frames: int | None = None
    budget_frames: int = 2500
    rate: float = 1e-3
    encoder_factor: float = 0.15
    bf16: bool = False
    warmup_steps: int = 100
    decay_steps: int = 600
    ctc_weight: float = 1.0
    balance_weight: float = 0.02
    probe_weight: float = 0.2
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 1
    save_every_s: float = 240.0
    report_every: int = 50


@dataclass
class Position:
    """Where a run stands. `shards` are those of the running epoch."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    shards: tuple[str, ...] = ()


def fit(
    model: Eureka,
    tokenizer: Tokenizer,
    features: Path,
    run: Path,
    config: TrainConfig,
    report: Callable[[str], None] = print,
) -> list[float]:
    """Train to `config.steps`, resuming from the run's state when there is one. Returns the loss of each step."""
    run.mkdir(parents=True, exist_ok=True)
    freeze_below(model)
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    torch.manual_seed(config.seed)
    probes = Probes(model.config.decoder.hidden)
    named |= {f"probes.{name}": value for name, value in probes.named_parameters()}
    for name, value in named.items():
        value.requires_grad_(not config.decoder_only or name.startswith("decoder."))
    trained = [value for value in named.values() if value.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [
                    value
                    for name, value in named.items()
                    if value.requires_grad
                    and name.startswith("audio_encoder.") == encoder
                    and (value.ndim > 1) == matrix
                ],
                "weight_decay": config.weight_decay if matrix else 0.0,
                "factor": config.encoder_factor if encoder else 1.0,
            }
            for encoder in (False, True)
            for matrix in (True, False)
        ],
        lr=config.rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    position = load_state(run, named, optimizer)
    loaded: dict[str, list[Example]] = {}
    batches: list[list[int]] = []
    examples: list[Example] = []
    losses: list[float] = []
    recent: dict[str, list[float]] = {}
    last_save_s = report_s = time.monotonic()
    audio_s = 0.0
    model.train()
    while position.step < config.steps:
        if not batches:
            position.shards = position.shards or _shards(features)
            for name in position.shards:
                if name not in loaded:
                    loaded[name] = [
                        example
                        for example in load_examples([features / name])
                        if config.longest_frames is None or example.item.frames <= config.longest_frames
                    ]
            examples = [example for name in position.shards for example in loaded[name]]
            batches = epoch_batches(examples, config.budget_frames, config.seed, position.epoch)
            if position.index >= len(batches):
                # An earlier stage had more batches; this one starts with an epoch of its own.
                position, batches = Position(position.step, position.epoch + 1), []
                continue
        batch = [examples[i] for i in batches[position.index]]
        jobs: list[tuple[int, Job]] = []
        if position.step >= config.ctc_steps:
            items = [example.item for example in batch]
            jobs = draw_jobs(items, config.decoder_jobs, config.seed, position.epoch, position.index)
        for group in optimizer.param_groups:
            group["lr"] = rate_at(config, position.step) * group["factor"]
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + position.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            parts = batch_losses(model, probes, tokenizer, batch, jobs, states_of(model, batch, generator))
        loss = parts.total(config.ctc_weight, config.balance_weight, config.probe_weight)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        for name, part in (
            ("ctc", parts.ctc),
            ("decoder", parts.decoder),
            ("balance", parts.balance),
            ("probes", parts.probes),
        ):
            if part is not None:
                recent.setdefault(name, []).append(float(part.detach()))
        audio_s += sum(example.item.frames for example in batch) / 50
        position.step += 1
        position.index += 1
        if position.index == len(batches):
            position = Position(position.step, position.epoch + 1)
            batches = []
        if position.step % config.report_every == 0:
            spent_s = time.monotonic() - report_s
            means = " ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in recent.items())
            report(
                f"step {position.step}/{config.steps} epoch {position.epoch} windows {len(examples)} {means} "
                f"{audio_s / spent_s:.0f}x real time"
            )
            recent, audio_s, report_s = {}, 0.0, time.monotonic()
        if time.monotonic() - last_save_s > config.save_every_s:
            save_state(run, named, optimizer, position, config)
            last_save_s = time.monotonic()
    save_state(run, named, optimizer, position, config)
    model.eval()
    return losses


def freeze_below(model: Eureka) -> None:
    """Of the encoder only the last LIVE_LAYERS and the final norm are trained."""
    model.audio_encoder.requires_grad_(False)
    for layer in list(model.audio_encoder.layers)[-LIVE_LAYERS:]:
        layer.requires_grad_(True)
    model.audio_encoder.layer_norm.requires_grad_(True)


def rate_at(config: TrainConfig, step: int) -> float:
    """Learning rate of a step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cool = min(1.0, (config.steps - step) / max(1, config.decay_steps))
    return config.rate * warm * cool


def _shards(features: Path) -> tuple[str, ...]:
    names = tuple(sorted(str(path.relative_to(features)) for path in features.rglob("*.safetensors")))
    if not names:
        raise FileNotFoundError(f"no shards under {features}; run the features step first")
    return names


def save_state(
    run: Path,
    named: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    position: Position,
    config: TrainConfig,
) -> None:
    """Weights, moments and position in one file, replaced in one step."""
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        tensors[f"weight.{name}"] = value.detach()
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            if value in optimizer.state:
                tensors[f"{moment}.{name}"] = optimizer.state[value][moment]
    partial = run / "state.part"
    metadata = {"position": json.dumps(asdict(position)), "config": json.dumps(asdict(config))}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.rename(run / STATE)


def load_state(
    run: Path, named: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer | None
) -> Position:
    """Fill weights (and moments) from the run's state; a new run starts at step 0. KeyError when they do not match."""
    path = run / STATE
    if not path.exists():
        return Position()
    with safe_open(path, "pt") as state:
        keys = set(state.keys())
        for name, value in named.items():
            value.data.copy_(state.get_tensor(f"weight.{name}"))
            if optimizer is not None and value.requires_grad and f"step.{name}" in keys:
                optimizer.state[value] = {
                    moment: state.get_tensor(f"{moment}.{name}")
                    for moment in ("exp_avg", "exp_avg_sq", "step")
                }
        raw: dict[str, Any] = json.loads(state.metadata()["position"])
    return Position(raw["step"], raw["epoch"], raw["index"], tuple(raw["shards"]))
