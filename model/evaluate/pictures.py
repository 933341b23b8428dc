"""The pictures of an evaluation report.

In: findings of one or more checkpoints. Out: PNG files. Knows no engine. Invariant: a picture shows what was counted
and nothing else; the number of items stands in every part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.evaluate.calibration import Reliability
from model.evaluate.confusions import Confusion
from model.evaluate.findings import Findings

COLOURS = ("#2f5d8a", "#d9822b", "#3a7d44", "#8a3a6f", "#6b6b6b", "#b0a030")
DPI = 110


def draw(folder: Path, all_findings: Sequence[Findings]) -> list[str]:
    """Write all pictures into `folder`; their names. A picture of nothing is left out."""
    written = []
    for name, figure in (
        ("shares", _shares(all_findings)),
        ("reliability", _reliability(all_findings)),
        *((f"confusions-{number}", _confusions(one)) for number, one in enumerate(all_findings, 1)),
    ):
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            written.append(f"{name}.png")
    return written


def _shares(all_findings: Sequence[Findings]) -> Figure | None:
    """Every figure in per cent with its interval, checkpoints beside one another."""
    names = list(
        dict.fromkeys(one.name for found in all_findings for one in found.measures if one.unit == "%")
    )
    if not names:
        return None
    figure = Figure(
        figsize=(10, 1.6 + 0.34 * len(names) * max(1, len(all_findings) ** 0.5)), layout="constrained"
    )
    axes = figure.subplots()
    step = 0.7 / len(all_findings)
    for number, found in enumerate(all_findings):
        told = {one.name: one.interval() for one in found.measures if one.unit == "%"}
        places = [names.index(name) + (number - (len(all_findings) - 1) / 2) * step for name in told]
        values = np.array([one.value for one in told.values()])
        errors = np.array([[one.value - one.low, one.high - one.value] for one in told.values()]).T
        axes.errorbar(
            values,
            places,
            xerr=np.maximum(errors, 0),
            fmt="o",
            markersize=4,
            capsize=2,
            color=COLOURS[number % len(COLOURS)],
            label=found.checkpoint,
        )
    known = {one.name: one for found in all_findings for one in found.measures}
    arrows = {"lower": "↓", "higher": "↑"}
    axes.set_yticks(
        range(len(names)), [f"{name} ({known[name].items})  {arrows[known[name].better]}" for name in names]
    )
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("%, with 95 % intervals   (number of items; ↓ lower is better, ↑ higher)")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _reliability(all_findings: Sequence[Findings]) -> Figure | None:
    """A row for each checkpoint, a column for each kind of confidence."""
    kinds = list(dict.fromkeys(one.what for found in all_findings for one in found.reliabilities))
    if not kinds:
        return None
    rows = len(all_findings)
    figure = Figure(figsize=(1 + 3.6 * len(kinds), 4.1 * rows), layout="constrained")
    grid = figure.subplots(rows, len(kinds), squeeze=False)
    for found, line in zip(all_findings, grid, strict=True):
        known = {one.what: one for one in found.reliabilities}
        for kind, axes in zip(kinds, line, strict=True):
            if kind in known:
                _diagram(axes, known[kind], found.checkpoint)
            else:
                axes.axis("off")
    return figure


def _diagram(axes: Axes, one: Reliability, checkpoint: str) -> None:
    """Share of right ones over confidence, as bars; how many are in each, above it."""
    axes.plot((0, 1), (0, 1), color="#888888", linewidth=1, linestyle="--")
    for part in one.bins:
        axes.bar(part.low + 0.05, part.accuracy, 0.09, color=COLOURS[0], alpha=0.75)
        axes.plot(part.confidence, part.accuracy, "o", color=COLOURS[1], markersize=4)
        axes.text(part.low + 0.05, part.accuracy + 0.03, str(part.count), ha="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.1)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share that was right")
    auc = "—" if one.auc is None else f"{one.auc:.2f}"
    axes.set_title(
        f"{checkpoint}: {one.what}\nECE {one.ece:.3f}, AUC {auc}, said {one.confidence:.2f}, was {one.accuracy:.2f}",
        fontsize=8,
    )


def _confusions(found: Findings) -> Figure | None:
    if not found.confusions:
        return None
    columns = min(3, len(found.confusions))
    rows = -(-len(found.confusions) // columns)
    figure = Figure(figsize=(1 + 4.3 * columns, 4.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(found.confusions) :]:
        axes.axis("off")
    for axes, (of, one) in zip(grid, found.confusions, strict=False):
        _matrix(axes, of, one)
    figure.suptitle(found.checkpoint, fontsize=10)
    return figure


def _matrix(axes: Axes, of: str, one: Confusion) -> None:
    """Counts, shaded by the share of their row."""
    counts = np.asarray(one.counts, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.55 else "black"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=shade, fontsize=8)
    small = 7 if len(one.columns) > 6 else 8
    axes.set_xticks(range(len(one.columns)), one.columns, rotation=45, ha="right", fontsize=small)
    axes.set_yticks(range(len(one.rows)), one.rows, fontsize=small)
    axes.set_xlabel("answer", fontsize=8)
    axes.set_ylabel("truth", fontsize=8)
    axes.set_title(f"{one.question}: {of}, {int(counts.sum())} items", fontsize=9)
