"""The picture of a soak: what the processes held over time, the thirds that were compared marked.

In: samples and a path. Out: a PNG. Knows no process and no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

PANELS: Final[Mapping[str, tuple[str, ...]]] = {
    "memory of the worker (MB)": ("worker_rss_mb", "worker_pss_mb"),
    "memory of the engine process (MB)": ("engine_rss_mb", "engine_pss_mb"),
    "file descriptors": ("worker_fds", "engine_fds"),
    "threads, sockets": ("worker_threads", "engine_threads", "worker_sockets", "engine_sockets"),
    "connections, processes, live sessions": ("database_connections", "processes", "live_sessions"),
    "records behind": ("lag_records",),
    "rows so far": ("rows",),
    "sessions so far": ("sessions",),
}


def plot(at_s: Sequence[float], values: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """One panel per kind of figure, all from zero, so that a growth looks as large as it is."""
    figure = Figure(figsize=(14, 14), layout="constrained")
    figure.suptitle(title)
    minutes = [second / 60 for second in at_s]
    for panel, (what, names) in zip(figure.subplots(4, 2).flat, PANELS.items(), strict=True):
        for name in names:
            panel.plot(minutes, values[name], label=name)
        for number in (len(at_s) // 3, 2 * len(at_s) // 3):
            panel.axvline(minutes[number], color="grey", linestyle=":")
        panel.set_ylim(bottom=0)
        panel.set_xlabel("minutes")
        panel.set_ylabel(what)
        panel.grid(True, alpha=0.3)
        panel.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=100)
