"""What a run has done so far, step by step, so that it can be stopped anywhere and go on.

In: steps of clips with their values or why they were discarded. Out: the same, read back. Knows no model. Invariants: a
step is in the file before the next one begins; a line that a crash cut short is dropped, and nothing else; a folder
belongs to one run: other prompts, roles or seeds are refused. Only the steps of unfinished clips are held in memory.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from model.dataflux.errors import Misconfigured

FILE = "journal.jsonl"
END = "end"  # the last step of every clip
RUN_FILE = "run.json"


class Journal:
    """The steps of one run, in `folder`; opened for writing by one process at a time."""

    def __init__(self, folder: Path, run: Mapping[str, Any]) -> None:
        """Open or go on. Raises Misconfigured: another run's folder, or one that another process writes to."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        self._file = self._path.open("a+b")
        try:
            _lock(self._file)
            _claim(folder / RUN_FILE, run)
        except Misconfigured:
            self._file.close()
            raise
        self._steps: dict[str, dict[str, dict[str, Any]]] = {}  # of clips that are not finished
        self._finished: set[str] = set()
        whole = 0
        for line, end in self._whole_lines():
            self._remember(line)
            whole = end
        self._file.truncate(whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def find(self, clip: str, step: str) -> dict[str, Any] | None:
        """The line of a step: with `value`, or with `discarded`."""
        return self._steps.get(clip, {}).get(step)

    def finished(self, clip: str) -> bool:
        """Whether nothing is left to do for this clip."""
        return clip in self._finished

    def note(self, clip: str, step: str, **what: Any) -> None:
        """Put a step down."""
        line = {"clip": clip, "step": step, **what}
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self._remember(line)

    def lines(self) -> Iterator[dict[str, Any]]:
        """All steps, in the order in which they were put down."""
        return (line for line, _ in self._whole_lines())

    def _remember(self, line: dict[str, Any]) -> None:
        if line["step"] == END:
            self._finished.add(line["clip"])
            self._steps.pop(line["clip"], None)
        else:
            self._steps.setdefault(line["clip"], {})[line["step"]] = line

    def _whole_lines(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Each line with the position after it; what a crash cut short is left out."""
        end = 0
        with self._path.open("rb") as file:
            for raw in file:
                if raw.endswith(b"\n"):
                    end += len(raw)
                    yield json.loads(raw), end


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Misconfigured(f"{Path(file.name).parent}: another process works in this folder") from None


def _claim(path: Path, run: Mapping[str, Any]) -> None:
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n")
        os.replace(partial, path)
        return
    known = json.loads(path.read_text())
    other = sorted(name for name in {*known, *run} if known.get(name) != run.get(name))
    if other:
        raise Misconfigured(
            f"{path.parent} holds a run with other {', '.join(other)}: take a new folder, or go on as it was"
        )
