"""How time and memory grow with windows in flight, with their length and with decode slots.

In: a checkpoint. Out: a `Growth`: a `Point` per size of each axis and the exponents of the fitted power laws; a plot of
them. Everything goes through `model.engine.Engine`. Knows no stream: windows in flight are what streams look like here.
Invariant: the audio is a function of the seed alone, and a size is warmed up before it is timed.

The exponent is the slope of log y over log x by least squares: 0 is flat, 1 is proportional. Memory is the peak of the
resident memory of this process while a size is timed, the model's own included (on a GPU that of its allocator), so
its exponent is below that of the part that grows.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from model.answers import Request
from model.bench.soak import resident_mb, voice
from model.engine import Engine

Axis = Literal["windows_in_flight", "window_s", "decode_slots"]
Measure = Literal["seconds", "memory_mb"]
MEASURES: dict[Measure, str] = {"seconds": "time (s)", "memory_mb": "peak memory (MB)"}

WINDOWS = (1, 2, 4, 8, 16, 32, 64)
LENGTHS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
SLOTS = (1, 2, 4, 8, 16, 32)
SHORT_S = 2.0  # of windows whose length is not what is varied
REPEATS = 3
SEED = 12
LOOK_EVERY_S = 0.01
SPEECH = ("transcript", "questions:speech")
WHAT: dict[Axis, str] = {
    "windows_in_flight": "windows of 2 s in flight, until all are answered",
    "window_s": "length of one window (s), until it is answered",
    "decode_slots": "decode slots, per step",
}


@dataclass(frozen=True)
class Point:
    """The median time and the peak memory at one size."""

    axis: Axis
    size: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Growth:
    """`exponents` have keys such as `window_s.seconds`; an axis of fewer than two sizes has none."""

    model: str
    device: str
    threads: int
    points: tuple[Point, ...]
    exponents: dict[str, float]


def run(
    checkpoint: Path,
    device: str = "auto",
    threads: int = 1,
    windows: Sequence[int] = WINDOWS,
    lengths_s: Sequence[float] = LENGTHS_S,
    slots: Sequence[int] = SLOTS,
    repeats: int = REPEATS,
    seed: int = SEED,
) -> Growth:
    """Measure along the three axes. Raises CheckpointError, or ValueError for a device that is not there."""
    engine = Engine.open(checkpoint, device=device, threads=threads)
    engine.warm_up()
    model, name = f"{engine.name} {engine.version}", engine.device
    points = []
    for count in sorted(windows):
        requests = [_request(SHORT_S, [seed, number], SPEECH) for number in range(count)]
        points.append(_answered("windows_in_flight", count, engine, requests, repeats))
    for length_s in sorted(lengths_s):
        points.append(_answered("window_s", length_s, engine, [_request(length_s, [seed], SPEECH)], repeats))
    del engine
    for count in sorted(slots):
        gc.collect()  # the engine before this one must not be in the figure
        engine = Engine.open(checkpoint, device=device, threads=threads, slots=count)
        points.append(_decoded(count, engine, repeats, seed))
        del engine
    return Growth(model, name, threads, tuple(points), exponents(points))


def exponents(points: Sequence[Point]) -> dict[str, float]:
    """Slope of log y over log x per axis and measure; axes of fewer than two sizes have none."""
    found = {}
    for axis in WHAT:
        here = [point for point in points if point.axis == axis]
        if len({point.size for point in here}) < 2:
            continue
        sizes = np.log([point.size for point in here])
        for measure in MEASURES:
            values = np.log([_value(point, measure) for point in here])
            found[f"{axis}.{measure}"] = round(float(np.polyfit(sizes, values, 1)[0]), 3)
    return found


def plot(growth: Growth, path: Path) -> None:
    """Write all of it as one PNG: a column per axis, time above memory, both scales logarithmic."""
    from matplotlib.figure import Figure  # takes a while to import, and only a plot needs it

    figure = Figure(figsize=(13, 7), layout="constrained")
    figure.suptitle("%s on %s, %d threads" % (growth.model, growth.device, growth.threads))
    panels = figure.subplots(2, len(WHAT), squeeze=False)
    for column, (axis, what) in enumerate(WHAT.items()):
        here = [point for point in growth.points if point.axis == axis]
        for row, (measure, unit) in enumerate(MEASURES.items()):
            panel = panels[row][column]
            exponent = growth.exponents.get(f"{axis}.{measure}")
            values = [_value(point, measure) for point in here]
            label = "no slope" if exponent is None else "slope %.2f" % exponent
            panel.loglog([point.size for point in here], values, "o-", label=label)
            if values and max(values) < 10 * min(values):
                # A decade at least, or what is flat would look steep.
                middle = (min(values) * max(values)) ** 0.5
                panel.set_ylim(middle * 10**-0.5, middle * 10**0.5)
            panel.set_xlabel(what)
            panel.set_ylabel(unit)
            panel.grid(True, which="both", alpha=0.3)
            panel.legend()
    figure.savefig(path, format="png", dpi=120)


def _answered(axis: Axis, size: float, engine: Engine, requests: Sequence[Request], repeats: int) -> Point:
    """Until all of them are answered."""
    engine.run(requests)
    times_s = []
    with _peak(engine) as peak:
        for _ in range(repeats):
            started_s = time.perf_counter()
            engine.run(requests)
            times_s.append(time.perf_counter() - started_s)
    return Point(axis, size, statistics.median(times_s), round(peak.mb, 1))


def _decoded(slots: int, engine: Engine, repeats: int, seed: int) -> Point:
    """A step that does nothing but decode, with captions in as many slots as the engine gives them (half)."""
    captions = max(1, slots // 2)
    requests = [_request(SHORT_S, [seed, number], ("caption",)) for number in range(captions)]
    times_s: list[float] = []
    with _peak(engine) as peak:
        for repeat in range(1 + repeats):
            for request in requests:
                engine.submit(request)
            steps_s = []
            while engine.busy:
                started_s = time.perf_counter()
                engine.step()
                steps_s.append(time.perf_counter() - started_s)
            # At most one window is looked at in each of the first steps, and all slots are decoded in every step.
            if repeat:
                times_s += steps_s[captions:] or steps_s[-1:]
    return Point("decode_slots", slots, statistics.median(times_s), round(peak.mb, 1))


def _request(seconds: float, seed: Sequence[int], tasks: tuple[str, ...]) -> Request:
    return Request("growth", voice(seconds, np.random.default_rng(seed)), tasks)


@dataclass
class _Peak:
    mb: float = 0.0


@contextmanager
def _peak(engine: Engine) -> Iterator[_Peak]:
    """The most memory while the block runs: of the GPU's allocator, or resident, looked at all the time."""
    found = _Peak()
    if not engine.placement.on_cpu:
        torch.cuda.reset_peak_memory_stats(engine.placement.device)
        yield found
        found.mb = torch.cuda.max_memory_allocated(engine.placement.device) / 1e6
        return
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_EVERY_S):
            found.mb = max(found.mb, resident_mb())

    watcher = threading.Thread(target=watch, name="peak")
    watcher.start()
    try:
        yield found
    finally:
        stop.set()
        watcher.join()
        found.mb = max(found.mb, resident_mb())


def _value(point: Point, measure: Measure) -> float:
    return point.seconds if measure == "seconds" else point.memory_mb
