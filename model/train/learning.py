"""The learning curves of one run, or of several that go on from each other, as a picture.

In: the folders of runs, in the order they were made. Out: a PNG: loss of decoder and CTC head over the steps of all.
Knows no model. Invariant: what is drawn is what was written for TensorBoard, nothing smoothed, nothing left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOSSES = {"loss/ctc": "CTC head, per token", "loss/decoder": "decoder, per token, mean over answers"}
CURVES = "curves"
Points = list[tuple[int, float]]


def read(run: Path) -> dict[str, Points]:
    """Step and value of each loss of a run. FileNotFoundError where there is none."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    if not any((run / CURVES).glob("events.out.tfevents.*")):
        raise FileNotFoundError(f"no curves in {run / CURVES}")
    events: Any = EventAccumulator(str(run / CURVES), size_guidance={"scalars": 0})
    events.Reload()
    known = events.Tags()["scalars"]
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in LOSSES
        if name in known
    }


def laid_out(runs: Sequence[dict[str, Points]]) -> tuple[list[dict[str, Points]], list[int]]:
    """The runs one after the other on one axis, and where each but the first begins. A loss of 0 was not computed."""
    shifted: list[dict[str, Points]] = []
    begins: list[int] = []
    done = 0
    for run in runs:
        shifted.append({n: [(done + step, value) for step, value in p if value > 0] for n, p in run.items()})
        done += max((step for points in run.values() for step, _ in points), default=0)
        begins.append(done)
    return shifted, begins[:-1]


def draw(runs: Sequence[Path], out: Path) -> None:
    """Write the picture; losses on a logarithmic axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shifted, begins = laid_out([read(run) for run in runs])
    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for colour, (name, label) in enumerate(LOSSES.items()):
        pieces = [run[name] for run in shifted if run.get(name)]
        for number, points in enumerate(pieces):
            steps, values = zip(*points, strict=True)
            named = label if number == 0 else None
            axes.plot(steps, values, ".-", color=f"C{colour}", linewidth=1, markersize=3, label=named)
    for begin in begins:
        axes.axvline(begin, color="gray", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("steps, all stages")
    axes.set_ylabel("training loss")
    axes.legend(fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
