"""What is to be seen of a run: curves for TensorBoard, a progress bar on a terminal, lines elsewhere.

In: a stage's progress. Out: event files in a folder, and text on stderr. Knows no model.
Invariant: after a resume the curve goes on where the state stands: what a killed run had written past that is hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Watcher(Protocol):
    """Who is told how a stage goes."""

    def step(self, done: int) -> None:
        """So many steps of the stage are done."""

    def report(self, done: int, values: Mapping[str, float], note: str) -> None:
        """Means since the last report, by name (`loss/ctc`), and what else is worth a line."""


class Nobody:
    """Watches nothing: the other processes, and tests."""

    def step(self, done: int) -> None:
        pass

    def report(self, done: int, values: Mapping[str, float], note: str) -> None:
        pass


class Curves:
    """Watches one stage. `before` steps of earlier stages lie before it on the axis."""

    def __init__(
        self, folder: Path, stage: str, steps: int, before: int, start: int, console: Console | None = None
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here, because it takes a second

        self._stage, self._steps, self._before = stage, steps, before
        self._writer = SummaryWriter(str(folder), purge_step=before + start + 1)
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task(stage, total=steps, completed=start)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._writer.close()

    def step(self, done: int) -> None:
        self._bar.update(self._task, completed=done)

    def report(self, done: int, values: Mapping[str, float], note: str) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{name}", value, self._before + done)
        self._writer.flush()
        losses = " ".join(
            f"{name.removeprefix('loss/')} {value:.3f}" for name, value in values.items() if "loss/" in name
        )
        line = f"{self._stage} {done}/{self._steps} {losses} {note}"
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{self._stage} {losses} {note}")
        else:
            self._console.print(line, highlight=False, soft_wrap=True)
