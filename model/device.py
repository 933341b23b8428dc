"""Which device the model runs on and in which precision: chosen once, logged with its reason.

In: what was asked for. Out: a `Placement`. Knows no model. Invariant: "auto" never picks what cannot run bf16.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from model import processor

log = logging.getLogger(__name__)


class DeviceError(ValueError):
    """There is no such device here."""


@dataclass(frozen=True)
class Placement:
    """A device, its number type, and how many sequences are decoded at a time there.

    `windows` are looked at together (on a CPU each by itself: padding costs more than a batch saves there). `half`: the
    products in bf16 although the rest is fp32 (`model.half`).
    """

    device: torch.device
    dtype: torch.dtype
    slots: int
    compile: bool
    reason: str
    windows: int = 1
    half: bool = False

    @property
    def on_cpu(self) -> bool:
        return self.device.type == "cpu"


def choose(
    asked: str, compile: bool | None = None, slots: int | None = None, half: bool | None = None
) -> Placement:
    """ "auto", "cpu", "cuda" or "cuda:1" → where to run. Raises DeviceError for a device that is not there.

    compile, half: None where it pays: the one on a GPU, the other on a CPU with bf16 instructions, where nothing is
    compiled (packed weights are opaque to the compiler).
    """
    device, reason = torch.device("cpu"), "asked for"
    if asked != "auto":
        try:
            device = torch.device(asked)
        except RuntimeError:  # torch lists every device type it ever heard of
            raise DeviceError(f"device {asked}: only cpu and cuda are supported") from None
        if device.type not in ("cpu", "cuda"):
            raise DeviceError(f"device {asked}: only cpu and cuda are supported")
        if device.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError(f"device {asked}: no CUDA device here")
    elif not torch.cuda.is_available():
        reason = "no CUDA device here"
    elif torch.cuda.get_device_capability()[0] < 8:
        reason = "the CUDA device has no bf16 (compute capability 8.0 wanted)"
    else:
        device, reason = torch.device("cuda"), "a CUDA device with bf16"
    on_gpu = device.type == "cuda"
    compiled = on_gpu if compile is None else compile
    placement = Placement(
        device=device,
        dtype=torch.bfloat16 if on_gpu else torch.float32,  # bf16 was measured to be 2× slower on a CPU
        slots=slots or (32 if on_gpu else 8),
        compile=compiled,
        reason=reason,
        windows=16 if on_gpu else 1,
        half=not on_gpu and not compiled and (processor.has_bf16() if half is None else half),
    )
    log.info(
        "device chosen",
        extra={
            "device": str(device),
            "dtype": str(placement.dtype),
            "compile": placement.compile,
            "bf16_products": placement.half,
            "reason": reason,
        },
    )
    return placement


def keep_compiled() -> None:
    """Have what is compiled kept between starts, below the user's cache unless TORCHINDUCTOR_CACHE_DIR says where."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "eureka-stream" / "inductor"))


def keep_few_kernels() -> None:
    """Bound the cache of oneDNN, which keeps a kernel for every shape it has seen: windows have any length.

    Measured on nano over 600 windows of any length: 300 MB more at the default of 1024 kernels. 256 hold most of the
    shapes of windows of a few seconds (`model.half`); with 64 a tenth of the time went into making kernels again. To be
    called before the first product.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")


def default_threads() -> int:
    """CPU threads of an engine process: half of the cores, the other half is for the streams."""
    return max(1, (os.cpu_count() or 1) // 2)


@contextmanager
def one_thread(placement: Placement | None = None) -> Iterator[None]:
    """Run small matrix products on one thread: faster (2.5 against 47 ms a step on two busy cores), and the same
    bits wherever a row stands in its batch. Does nothing where the placement is no CPU."""
    if placement is not None and not placement.on_cpu:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
