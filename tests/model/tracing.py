"""`torch.compile` without the machine code: graphs are traced, guarded and counted as ever, and run as they are.

In: a monkeypatch. Out: every compilation after it goes to the backend "eager". Knows no model. Invariant: what breaks
a graph or needs one more does so here too; only the C++ compiler, which takes a second for each kernel, is left out.
"""

import functools

import pytest
import torch

# What torch uses to compile uses what torch deprecates.
OF_TORCH_ITSELF = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)


def trace_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
