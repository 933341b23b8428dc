"""The folder of harvested recordings: WAV files, and the list that says whose they are (by hashes) and for how long.

In: recordings with their lines. Out: the same, kept or deleted. It knows no database and no topic. Invariants: the
folder is for this user alone, and one process at a time has it; a recording has a line, or it is deleted when the
folder is opened next; what is deleted is gone from the list and from the disk.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.errors import Unavailable
from workers.recordings import write_wav

LIST = "harvest.jsonl"


class Folder:
    """The harvested recordings and the list of them; for this user alone, and for one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: dict[str, dict[str, Any]] = {}  # by file
        self.new: set[str] = set()
        self._lock: int | None = None

    def __enter__(self) -> Folder:
        """Raises Unavailable when another process has it."""
        (self._path / "audio").mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.chmod(0o700)
        self._lock = os.open(self._path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise Unavailable(f"{self._path}: another process harvests into this folder") from None
        if (self._path / LIST).exists():
            for raw in (self._path / LIST).read_text(encoding="utf-8").splitlines():
                line = json.loads(raw)
                self.lines[Path(line["audio"]).stem] = line
        for stray in (self._path / "audio").iterdir():  # of a call that was cut off
            if stray.stem not in self.lines:
                stray.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._lock is not None
        os.close(self._lock)

    def add(self, file: str, audio: npt.NDArray[np.int16], line: dict[str, Any]) -> None:
        """The recording first, then its line: one without a line is deleted at the next call."""
        name = f"audio/{file}.wav"
        with _private():
            write_wav(self._path / name, audio)
        self.lines[file] = {"audio": name} | line
        self.new.add(name)

    def drop(self, file: str) -> None:
        line = self.lines.pop(file)
        (self._path / line["audio"]).unlink(missing_ok=True)

    def save(self) -> None:
        """Replace the list in one step."""
        partial = self._path / f".{LIST}.{os.getpid()}"
        with _private():
            partial.write_text("".join(json.dumps(line) + "\n" for line in self.lines.values()))
        os.replace(partial, self._path / LIST)


@contextmanager
def _private() -> Iterator[None]:
    """Files made within are for this user alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
