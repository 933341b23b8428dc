"""Two processes with gloo take the steps that one takes with the same batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.train.distributed import Processes
from model.train.state import STATE
from tests.model.train.rank import STEPS, train
from tests.model.train.states import make_shards

ROOT = Path(__file__).parents[3]


def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_shards(tmp_path / "features", 12)
    alone = train(features, tmp_path / "alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.model.train.rank", str(features), str(tmp_path / "together")],
        cwd=ROOT,
        env=os.environ | shared | {"RANK": "1", "LOCAL_RANK": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        for key, setting in (shared | {"RANK": "0", "LOCAL_RANK": "0"}).items():
            monkeypatch.setenv(key, setting)
        together = train(features, tmp_path / "together")
        theirs = json.loads(other.communicate(timeout=100)[0])
    assert len(alone) == STEPS
    assert together == pytest.approx(alone, rel=1e-5)
    assert theirs == together
    want, found = (load_file(tmp_path / name / STATE) for name in ("alone", "together"))
    assert want.keys() == found.keys()
    for weight, value in want.items():
        if weight.startswith("weight."):
            # Where a gradient is next to nothing, Adam makes a whole step of rounding.
            torch.testing.assert_close(found[weight], value, rtol=1e-3, atol=2e-4)


def test_one_process_talks_to_nobody() -> None:
    alone = Processes(torch.device("cpu"))
    assert alone.first
    assert alone.agree("text") == "text"
    assert alone.any(True)
    assert torch.equal(alone.total(torch.ones(2)), torch.ones(2))
    module = torch.nn.Linear(1, 1)
    assert alone.shared(module) is module
