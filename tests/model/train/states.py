"""Made-up encoder states in shards, and a stage small enough for a test."""

from pathlib import Path
from typing import Any

import torch

from model.train import cache
from model.train.cache import Item
from model.train.distributed import Processes
from model.train.loop import Run
from model.train.recipe import Part, Stage

LIVE = 2
TEXTS = ("please hold", "the line", "")
PARTS: frozenset[Part] = frozenset({"encoder", "adapter", "ctc", "decoder"})


def items(count: int) -> list[Item]:
    found = []
    for i in range(count):
        text = TEXTS[i % 3]
        sound = "speech" if text else "music"
        found.append(Item(f"id{i}", 80 + 8 * (i % 4), text, f"{sound}.", {"sound": sound}, "test"))
    return found


def make_shards(folder: Path, count: int) -> Path:
    generator = torch.Generator().manual_seed(0)
    made = items(count)
    patterns = torch.randn(3, 100, 32, generator=generator)
    states = [patterns[i % 3][torch.arange(item.frames) % 100] for i, item in enumerate(made)]
    folder.mkdir()
    cache.write_shard(folder / "test-00000.safetensors", made, [s.half() for s in states])
    return folder


def stage(**changes: Any) -> Stage:
    return Stage.model_validate(
        {
            "name": "joint",
            "steps": 8,
            "train": tuple(sorted(PARTS)),
            "rate": 3e-3,
            "budget_frames": 400,
            "warmup_steps": 2,
            "decay_steps": 1,
            "probes": 0.2,
            "bf16": False,
            "save_every_s": 3600.0,
            "report_every": 5,
        }
        | changes
    )


def run(folder: Path, processes: Processes | None = None) -> Run:
    return Run(folder, 1, LIVE, PARTS, processes or Processes(torch.device("cpu")))
