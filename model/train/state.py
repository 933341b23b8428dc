"""The state of a run: one file that is always whole, so that a run may be killed at any moment.

In: parameters, the optimizer's moments, where the run stands. Out: `state.safetensors`, and back.
Knows no loss and no data. Invariant: a new state replaces the old one in one step, after it is on the disk; what is
read back is equal bit by bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

STATE = "state.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Position:
    """Where a run stands: `step` steps of `stage` are done, `index` batches of its epoch `epoch`.

    `parts` are those that the epoch's windows come from.
    """

    stage: str = ""
    step: int = 0
    epoch: int = 0
    index: int = 0
    parts: tuple[str, ...] = ()


def save(
    folder: Path,
    named: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    position: Position,
    config: str,
) -> None:
    """Weights, moments, position and the stage's configuration (JSON) in one file."""
    tensors: dict[str, Tensor] = {}
    for name, value in named.items():
        tensors[f"weight.{name}"] = value.detach()
        for moment in MOMENTS:
            if value in optimizer.state:
                tensors[f"{moment}.{name}"] = optimizer.state[value][moment]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "state.part"
    metadata = {"position": json.dumps(asdict(position)), "config": config}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
    _on_disk(partial)
    os.replace(partial, folder / STATE)
    _on_disk(folder)


def _on_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def position(folder: Path) -> tuple[Position, str]:
    """Where the run of this folder stands and its stage's configuration; the start for a new one."""
    path = folder / STATE
    if not path.exists():
        return Position(), ""
    with safe_open(path, "pt") as state:
        metadata = state.metadata()
    raw: dict[str, Any] = json.loads(metadata["position"])
    return Position(**raw | {"parts": tuple(raw["parts"])}), metadata["config"]


def load(
    folder: Path, named: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Fill weights, and moments where an optimizer is given. KeyError when the state lacks one of `named`."""
    with safe_open(folder / STATE, "pt") as state:
        keys = set(state.keys())
        for name, value in named.items():
            weight = f"weight.{name}"
            if weight not in keys:
                raise KeyError(f"{folder / STATE} holds no {name}")
            value.data.copy_(state.get_tensor(weight))
            if optimizer is not None and value.requires_grad and f"step.{name}" in keys:
                optimizer.state[value] = {
                    moment: state.get_tensor(f"{moment}.{name}").to(value.device) for moment in MOMENTS
                }
