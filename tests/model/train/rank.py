"""One process of a training that several share: `python -m tests.model.train.rank FEATURES RUN`.

Started with torchrun's environment. Prints the losses as JSON.
"""

import json
import sys
from pathlib import Path

import torch

from model.train import distributed, loop
from model.train.dataset import ShardWindows
from tests.model import tiny
from tests.model.train.states import LIVE, run, stage

STEPS = 5


def train(features: Path, folder: Path) -> list[float]:
    """A few steps as one of the processes that the environment tells of; more jobs than fit one process's windows."""
    with distributed.join("cpu") as processes:
        windows = ShardWindows(features, LIVE)
        fitted = loop.fit(
            tiny.model(),
            tiny.tokenizer(),
            windows,
            stage(steps=STEPS, budget_frames=500, jobs_per_window=0.4),
            run(folder, processes),
        )
    return fitted.losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(train(*map(Path, sys.argv[1:3]))))
