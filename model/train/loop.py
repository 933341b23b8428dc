"""The training loop: one stage, resumable.

In: a model, windows, a `Stage`, the run's folder. Out: trained weights in the model and in the run's state.
Knows no audio and no other stage. Invariant: a run that is stopped or killed and resumed takes the same steps as one
that was not, bit by bit on a CPU, as long as the windows are the same; windows that appear later join at the next
epoch. How many processes share a batch changes nothing but rounding.
"""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from model.eureka import Eureka
from model.processor import has_bf16
from model.tokenizer import Tokenizer
from model.train import state
from model.train.batches import draw, epoch_batches, job, reordered
from model.train.cache import Item, Live
from model.train.curves import Nobody, Watcher
from model.train.dataset import Windows
from model.train.distributed import Processes
from model.train.inputs import Batch, Inputs, Preparer
from model.train.losses import PARTS, Objective, Weights
from model.train.probes import Probes
from model.train.recipe import Part, Stage
from model.train.state import Position

# Fields of a stage that may change while it runs.
FREE = ("save_every_s", "report_every")
FRAMES_PER_S = 50


class TrainingError(Exception):
    """The run cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Run:
    """What all stages of a run have in common."""

    folder: Path
    seed: int
    live: Live
    parts: frozenset[Part]
    processes: Processes
    repeats: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Fitted:
    """How a stage went: `finished` or stopped before; the loss of each step that was taken now."""

    finished: bool
    losses: list[float]
    picks_E: Tensor


def trainable(model: Eureka, parts: frozenset[Part], live: Live) -> dict[str, nn.Parameter]:
    """The parameters of these parts, by name; of the encoder its last `live` layers and the final norm."""
    layers = model.config.audio.layers
    lowest = 0 if live == "all" else layers - live

    def part_of(name: str) -> Part | None:
        module, _, rest = name.partition(".")
        if module != "audio_encoder":
            return PART_OF[module]
        if rest.startswith("layers."):
            return "encoder" if int(rest.split(".")[1]) >= lowest else None
        if rest.startswith("layer_norm."):
            return "encoder"
        return "encoder" if live == "all" and not rest.startswith("embed_positions.") else None

    return {name: value for name, value in model.named_parameters() if part_of(name) in parts}


PART_OF: Mapping[str, Part] = {
    "audio_adapter": "adapter",
    "ctc_head": "ctc",
    "ctc_context": "ctc",
    "decoder": "decoder",
}


def rate_at(stage: Stage, step: int) -> float:
    """Learning rate of a step."""
    warm = min(1.0, (step + 1) / max(1, stage.warmup_steps))
    cool = min(1.0, (stage.steps - step) / max(1, stage.decay_steps))
    return stage.rate * warm * cool


def fit(
    model: Eureka,
    tokenizer: Tokenizer,
    windows: Windows,
    stage: Stage,
    run: Run,
    watcher: Watcher | None = None,
    stop: Callable[[], bool] = lambda: False,
    changed: bool = False,
) -> Fitted:
    """Train until the stage is done or `stop` says so, from where the run's state stands; the state is saved then.

    changed: go on although the stage is another than the state was made with. Raises TrainingError otherwise, and when
    a loss is no finite number: the last saved state is still good then.
    """
    fitting = _Fitting(model, tokenizer, windows, stage, run, watcher or Nobody())
    fitting.resume(changed)
    finished = fitting.until(stop)
    return Fitted(finished, fitting.losses, fitting.picks_E)


class _Fitting:
    """One stage under way."""

    def __init__(
        self, model: Eureka, tokenizer: Tokenizer, windows: Windows, stage: Stage, run: Run, watcher: Watcher
    ) -> None:
        self.stage, self.run, self.watcher, self.windows = stage, run, watcher, windows
        torch.manual_seed(run.seed)
        probes = Probes(model.config.decoder.hidden).to(run.processes.device)
        self.named = trainable(model, run.parts, run.live)
        self.named |= {f"probes.{name}": value for name, value in probes.named_parameters()}
        model.requires_grad_(False)
        learning = trainable(model, frozenset(stage.train), run.live)
        if stage.probes > 0:
            learning |= {name: value for name, value in self.named.items() if name.startswith("probes.")}
        for name, value in self.named.items():
            value.requires_grad_(name in learning)
        self.learning = list(learning.values())
        self.optimizer = torch.optim.AdamW(groups(learning, stage), betas=(0.9, 0.98), fused=True)
        weights = Weights(stage.ctc, stage.balance, stage.probes)
        self.objective = Objective(model, probes, run.live, weights, run.processes.total)
        self.prepare = Preparer(
            tokenizer,
            run.live,
            model.config.tokens.im_end,
            model.config.audio.d_model,
            pinned=run.processes.device.type == "cuda",
        )
        self.position = Position(stage.name)
        self.losses: list[float] = []
        self.picks_E = torch.zeros(model.config.adapter.experts)
        self._items: list[Item] = []
        self._batches: list[list[int]] = []
        self._coming: Future[Inputs] | None = None
        self._pending: list[Tensor] = []
        self._unreported: list[list[float]] = []
        self._pending_picks_E = torch.zeros(model.config.adapter.experts, device=run.processes.device)
        self._audio_s = 0.0
        self._saved_s = self._reported_s = time.monotonic()

    def resume(self, changed: bool) -> None:
        """Take on the run's state: all of it within its stage, the weights alone after another."""
        position, config = state.position(self.run.folder)
        if not position.stage:
            return
        if position.stage != self.stage.name:
            state.load(self.run.folder, self.named)
            return
        if (differences := _differences(json.loads(config), self._config())) and not changed:
            raise TrainingError(
                f"stage {self.stage.name} in {self.run.folder} was begun with another configuration: "
                f"{differences}; take another folder, or say that it is meant (--changed)"
            )
        state.load(self.run.folder, self.named, self.optimizer)
        self.position = position

    def until(self, stop: Callable[[], bool]) -> bool:
        """Take steps; returns whether the stage is done."""
        processes, stage = self.run.processes, self.stage
        module = processes.shared(self.objective)
        module.train()
        with ThreadPoolExecutor(1) as ahead:
            while self.position.step < stage.steps:
                self._step(module, ahead)
                self.watcher.step(self.position.step)
                if self.position.step % stage.report_every == 0:
                    self._report()
                due = processes.first and time.monotonic() - self._saved_s > stage.save_every_s
                if processes.any(due):
                    self._save()
                if processes.any(stop()):
                    break
        self._coming = None
        self._report()
        self._save()
        self.objective.eval()
        return self.position.step >= stage.steps

    def _step(self, module: nn.Module, ahead: Executor) -> None:
        self._begin_epoch()
        epoch, index = self.position.epoch, self.position.index
        indices = self._batches[index]
        inputs = (self._coming or ahead.submit(self._inputs, epoch, index)).result()
        # The next batch is read and laid out while the device is busy with this one.
        following = index + 1 < len(self._batches)
        self._coming = ahead.submit(self._inputs, epoch, index + 1) if following else None
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.stage, self.position.step) * group["factor"]
        device = self.run.processes.device
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(self.stage.bf16, device)),
            warnings.catch_warnings(),
        ):
            # The norms' weights stay fp32 among bf16 products on purpose.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            loss, shares, picks_E = module(inputs, self.run.processes.world)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.learning, self.stage.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._pending.append(torch.cat([shares, norm.detach()[None] / self.run.processes.world]))
        self._pending_picks_E += picks_E
        self._audio_s += sum(self._items[i].frames for i in indices) / FRAMES_PER_S
        self.position.step += 1
        self.position.index += 1
        if self.position.index == len(self._batches):
            self.position = Position(self.stage.name, self.position.step, self.position.epoch + 1)
            self._batches = []

    def _begin_epoch(self) -> None:
        if self._batches:
            return
        processes = self.run.processes
        if not self.position.parts:
            now = json.dumps(self.windows.parts() if processes.first else [])
            self.position.parts = tuple(json.loads(processes.agree(now)))
        self._items = list(self.windows.items(self.position.parts))
        self._batches = epoch_batches(
            self._items,
            self.stage.budget_frames,
            f"{self.run.seed}/{self.stage.name}",
            self.position.epoch,
            self.run.repeats,
            self.stage.longest_frames,
        )
        if not self._batches:
            raise TrainingError(f"stage {self.stage.name}: no window is short enough for it")

    def _inputs(self, epoch: int, index: int) -> Inputs:
        """This process's part of a batch; what is drawn does not depend on how many processes there are."""
        stage, processes = self.stage, self.run.processes
        indices = self._batches[index]
        rng = random.Random(f"{self.run.seed}/{stage.name}/{epoch}/{index}/{len(indices)}")
        drawn = draw([self._items[i] for i in indices], stage.mix, stage.jobs_per_window, rng)
        seeds = [rng.getrandbits(62) for _ in indices]
        if stage.reorder:
            drawn = [(window, reordered(asked, rng)) for window, asked in drawn]
        mine = list(range(processes.rank, len(indices), processes.world))
        counts = bool(mine)
        mine = mine or [0]
        place = {window: at for at, window in enumerate(mine)}
        examples = self.windows.examples([indices[i] for i in mine], epoch, augmented=stage.augment)
        jobs = [
            (place[window], job(asked, examples[place[window]].item.frames))
            for window, asked in drawn
            if window in place
        ]
        return self.prepare(Batch(examples, jobs, [seeds[i] for i in mine] if stage.mask else None, counts))

    def _report(self) -> None:
        """Tell the watcher the means since the last report."""
        self._collect()
        if not self._unreported:
            return
        means = [sum(column) / len(self._unreported) for column in zip(*self._unreported, strict=True)]
        self._unreported = []
        values = {f"loss/{name}": value for name, value in zip(PARTS, means, strict=False)}
        share_E = (self._pending_picks_E / self._pending_picks_E.sum().clamp(min=1.0)).tolist()
        self.picks_E += self._pending_picks_E.cpu()
        self._pending_picks_E.zero_()
        values |= {f"expert/{index}": share for index, share in enumerate(share_E)}
        now_s = time.monotonic()
        speed = self._audio_s / (now_s - self._reported_s)
        values |= {
            "norm/gradient": means[-1],
            "rate": rate_at(self.stage, self.position.step - 1),
            "speed/times_real_time": speed,
        }
        self._audio_s, self._reported_s = 0.0, now_s
        note = f"epoch {self.position.epoch} windows {len(self._items)} {speed:.0f}x real time"
        self.watcher.report(self.position.step, values, note)

    def _collect(self) -> None:
        """The losses of the steps since, of all processes. Raises TrainingError for one that is no finite number."""
        if not self._pending:
            return
        steps = self.run.processes.total(torch.stack(self._pending)).tolist()
        self._pending = []
        if not all(math.isfinite(value) for row in steps for value in row):
            raise TrainingError(
                f"stage {self.stage.name}: the loss is no finite number before step {self.position.step}; "
                "the last saved state is good: resume with a lower rate (--changed)"
            )
        self.losses += [row[0] for row in steps]
        self._unreported += steps

    def _save(self) -> None:
        self._collect()  # raises before a state that is no good would replace one that is
        if self.run.processes.first:
            config = json.dumps(self._config())
            state.save(self.run.folder, self.named, self.optimizer, self.position, config)
        self._saved_s = time.monotonic()

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = self.stage.model_dump(mode="json", exclude=set(FREE))
        return config | {"seed": self.run.seed, "live": self.run.live}


def groups(learning: Mapping[str, nn.Parameter], stage: Stage) -> list[dict[str, object]]:
    """Parameter groups: the encoder at a rate of its own, no decay of vectors."""
    return [
        {
            "params": [
                value
                for name, value in learning.items()
                if name.startswith("audio_encoder.") == encoder and (value.ndim > 1) == matrix
            ],
            "weight_decay": stage.weight_decay if matrix else 0.0,
            "factor": stage.encoder_factor if encoder else 1.0,
        }
        for encoder in (False, True)
        for matrix in (True, False)
    ]


def in_bf16(asked: bool | Literal["auto"], device: torch.device) -> bool:
    """Whether products are in bf16: as asked, or where the device is fast at it."""
    if asked != "auto":
        return asked
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bf16()


def _differences(old: Mapping[str, object], new: Mapping[str, object]) -> str:
    names = [name for name in sorted(set(old) | set(new)) if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name)} → {new.get(name)}" for name in names)
