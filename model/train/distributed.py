"""The processes that train together: one, or as many as `torchrun` has started.

In: the environment that torchrun sets (RANK, LOCAL_RANK, WORLD_SIZE). Out: `Processes`, what the loop needs of the
others. Knows no model. Invariant: with one process nothing is communicated and nothing needs torch.distributed; every
method is called by all processes in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """This process among `world`; `device` is its own."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place, without a gradient."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def any(self, mine: bool) -> bool:
        """Whether it is true of any process."""
        if self.world == 1:
            return mine
        return bool(self.total(torch.tensor([float(mine)], device=self.device)).item())

    def agree(self, text: str) -> str:
        """What the first process says."""
        if self.world == 1:
            return text
        said = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(self.device)
        size = torch.tensor([len(said)], device=self.device)
        dist.broadcast(size, 0)
        if not self.first:
            said = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
        dist.broadcast(said, 0)
        return bytes(said.tolist()).decode()

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()

    def shared(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over the processes after each backward pass."""
        if self.world == 1:
            return module
        # A process whose part of a batch has no job does not run the decoder.
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)


@contextmanager
def join(device: str = "auto") -> Iterator[Processes]:
    """Join the other processes, if torchrun has started any, for as long as the context lasts.

    device: "auto" (a GPU of its own for each process where there are GPUs), "cpu" or "cuda". ValueError when there is
    no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device}: auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: no CUDA device here")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    mine = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(mine)
        # It plans a kernel for every new shape, and hardly two batches have the same.
        torch.backends.cuda.enable_cudnn_sdp(False)
    if world == 1:
        yield Processes(mine)
        return
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Processes(mine, dist.get_rank(), world)
    finally:
        dist.destroy_process_group()
