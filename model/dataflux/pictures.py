"""The pictures of a report.

In: a report and outcomes. Out: PNG files beside it. Knows no model. Invariant: every picture shows counts of the report
or audio of the run, nothing else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from model.dataflux.outcomes import ClipOutcome, Outcome
from model.dataflux.report import Report
from model.dataflux.values import LETTERS
from model.train.audio import RATE_HZ, read

KEPT, HARD, GONE = "#3a7d44", "#d9a441", "#b0b0b0"
EXAMPLES = 4
WRAP = 58


def draw(folder: Path, told: Report, clips: Sequence[ClipOutcome]) -> list[str]:
    """Write all pictures into `folder`; their names. A picture of nothing is left out."""
    figures = {
        "categories": _categories(told) if told.categories else None,
        "discarded": _discarded(told),
        "models": _models(told) if told.questions else None,
        "examples": _examples(folder, clips),
    }
    written = []
    for name, figure in figures.items():
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=110)
            written.append(f"{name}.png")
    return written


def _categories(told: Report) -> Figure:
    figure = Figure(figsize=(9, 1.4 + 0.45 * len(told.categories)), layout="constrained")
    axes = figure.subplots()
    names = [one.category for one in told.categories]
    agreed = np.array([one.kept - one.hard for one in told.categories])
    hard = np.array([one.hard for one in told.categories])
    gone = np.array([one.written - one.kept for one in told.categories])
    axes.barh(names, agreed, color=KEPT, label="kept")
    axes.barh(names, hard, left=agreed, color=HARD, label="kept, hard: one model right")
    axes.barh(names, gone, left=agreed + hard, color=GONE, label="discarded")
    axes.invert_yaxis()
    axes.set_xlabel("questions")
    axes.set_title(f"{told.kept.count} of {told.kept.of} questions kept")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _discarded(told: Report) -> Figure:
    parts: list[tuple[str, Mapping[str, int]]] = [
        ("questions", told.questions_discarded),
        ("clips", told.clips_discarded),
        ("written questions that broke a rule", told.rules_broken),
        ("replies that could not be used", told.unusable),
    ]
    shown = [(name, counts) for name, counts in parts if counts]
    rows = [max(1, len(counts)) for _, counts in shown] or [1]
    figure = Figure(figsize=(9, 1.2 * len(rows) + 0.4 * sum(rows)), layout="constrained")
    for axes, (name, counts) in zip(
        np.ravel(figure.subplots(len(rows), 1, height_ratios=rows)),
        shown or [("discarded", {"nothing": 0})],
        strict=True,
    ):
        bars = axes.barh(list(counts), list(counts.values()), color=GONE)
        axes.bar_label(bars, padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name, loc="left")
    return figure


def _models(told: Report) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [one.name for one in told.models]
    total = told.questions
    answered = np.array([one.answered for one in told.models])
    correct = np.array([one.right.count for one in told.models])
    left.bar(names, correct, color=KEPT, label="right by the key")
    left.bar(names, answered - correct, bottom=correct, color=HARD, label="wrong")
    left.bar(names, total - answered, bottom=answered, color=GONE, label="no answer")
    left.set_ylabel("questions")
    left.set_ylim(0, 1.3 * total)
    left.legend(fontsize=8)
    letters = sorted(told.key_positions)
    width = 0.8 / (1 + len(names))
    places = np.arange(len(letters))
    series = [("right option", told.key_positions), *((one.name, one.chosen) for one in told.models)]
    for index, (name, counts) in enumerate(series):
        right.bar(places + index * width, [counts.get(x, 0) for x in letters], width, label=name)
    right.set_xticks(places + 0.4 - width / 2, letters)
    right.set_title("places of the options")
    right.set_ylim(0, 1.4 * max(right.get_ylim()))
    right.legend(fontsize=8)
    return figure


def _examples(folder: Path, clips: Sequence[ClipOutcome]) -> Figure | None:
    """Spectrograms of a few kept questions with what was asked, of different categories, hard ones first."""
    found: dict[str, tuple[ClipOutcome, Outcome]] = {}
    for hard in (True, False):
        for clip in clips:
            for one in clip.items:
                if one.kept and one.hard == hard and clip.name not in {c.name for c, _ in found.values()}:
                    found.setdefault(one.item.category, (clip, one))
    shown = [pair for pair in found.values() if pair[0].origin is not None][:EXAMPLES]
    if not shown:
        return None
    figure = Figure(figsize=(11, 2.6 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (clip, one), (sound, words) in zip(shown, grid, strict=True):
        _spectrogram(sound, folder, clip)
        words.axis("off")
        words.text(0, 1, _told(clip, one), va="top", fontsize=9)
    return figure


def _spectrogram(axes: Axes, folder: Path, clip: ClipOutcome) -> None:
    assert clip.origin is not None
    samples = read(folder / clip.origin.audio)  # an absolute path stays one
    start = int(clip.origin.start * RATE_HZ)
    part = samples[start : start + int(clip.origin.seconds * RATE_HZ)]
    axes.specgram(
        part + 1e-7 * np.cos(np.arange(len(part))), NFFT=512, Fs=RATE_HZ, noverlap=256, vmin=-140, vmax=-30
    )
    axes.set_ylabel("Hz")
    axes.set_xlabel("s")


def _told(clip: ClipOutcome, one: Outcome) -> str:
    lines = [f"{one.item.category}{'   (hard)' if one.hard else ''}", *textwrap.wrap(one.item.text, WRAP)]
    for index, option in enumerate(one.item.options):
        lines += textwrap.wrap(f"{'→' if index == one.choice else '   '} {LETTERS[index]}. {option}", WRAP)
    caption = clip.caption.text if clip.caption is not None else ""
    return "\n".join([*lines, "", *textwrap.wrap(f"caption: {caption}", WRAP)[:3]])
