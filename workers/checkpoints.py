"""The folder of promoted checkpoints: which one workers run, which ones they ran before.

In: weights that somebody has decided for, with their SHA-256. Out: a copy of them in the folder, under a name made of
that digest, and `promoted.json`, the list of promotions, whose last entry counts. Knows no model, no gate, no process.

A folder and not a table, because weights have to reach every machine anyway: the list travels with them, on a shared
volume or copied after them, so no worker hears of a checkpoint that cannot be there. Which rows came from which
checkpoint stands in the rows.
Invariants: weights in the folder are complete before they are named, and never changed; the list is replaced in one
step; of two promotions at a time one waits for the other.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from streams.errors import Unavailable

LIST = "promoted.json"
FORMAT = "eureka-promotions-1"
PREVIOUS = "previous"
KEPT = 50  # promotions in the list; the weights of older ones stay in the folder


@dataclass(frozen=True, slots=True)
class Promotion:
    """A decision for a checkpoint. `file` is relative to the folder; `why`: gate, previous, or forced with a reason."""

    file: str
    sha256: str
    size_bytes: int
    model: str
    version: str
    promoted_at: str
    why: str

    def path_in(self, folder: Path) -> Path:
        """Where the weights lie."""
        return folder / self.file


def history(folder: Path) -> list[Promotion]:
    """All promotions, the one that counts last; none where nothing was promoted. Raises Unavailable, unreadable."""
    path = folder / LIST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError("not of the format %s" % FORMAT)
        promotions = [Promotion(**item) for item in found["promotions"]]
        if not all(_inside(p.file) for p in promotions):
            raise ValueError("names a file outside its folder")
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unavailable("%s cannot be read: %s" % (path, _wording(error))) from None
    return promotions


def promoted(folder: Path | None) -> Promotion | None:
    """What workers should run; None: what their setting says. Raises Unavailable."""
    return next(iter(reversed(history(folder))), None) if folder is not None else None


def earlier(promotions: list[Promotion]) -> list[Promotion]:
    """The way back, nearest first: other checkpoints than the one that counts, less those that were gone back from."""
    way: list[Promotion] = []
    for promotion in promotions:
        if promotion.why == PREVIOUS:
            while way and way[-1].sha256 != promotion.sha256:
                way.pop()
        if way and way[-1].sha256 == promotion.sha256:
            way.pop()
        way.append(promotion)
    return [p for p in reversed(way) if p.sha256 != promotions[-1].sha256]


def trouble(folder: Path, promotion: Promotion) -> str:
    """What is wrong at first sight with the weights of a promotion on this machine; empty when nothing is."""
    path = promotion.path_in(folder)
    if not path.exists():
        return "%s is not on this machine" % promotion.file
    size_bytes = size_of(path)
    if size_bytes != promotion.size_bytes:
        return "%s has %d bytes, not %d" % (promotion.file, size_bytes, promotion.size_bytes)
    return ""


def promote(
    folder: Path, source: Path, digest: Callable[[Path], str], sha256: str, model: str, version: str, why: str
) -> Promotion:
    """Copy the weights into the folder and have workers run them. `digest` is taken of the copy.

    Raises Unavailable: no room, no right to write, or the copy has another digest.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            there = next((p for p in (folder / sha256[:16]).glob("*") if _is(p, digest, sha256)), None)
            path = there or _copy(folder, source, digest, sha256)
            name = path.relative_to(folder).as_posix()
            return _append(folder, name, sha256, size_of(path), model, version, why)
    except OSError as error:
        raise Unavailable("nothing was promoted: %s: %s" % (error.filename, error.strerror)) from None


def go_back(folder: Path) -> Promotion:
    """Promote the previous checkpoint again, which has passed before; once more goes further back.

    Raises Unavailable: there is none, or it is gone.
    """
    try:
        with _alone(folder):
            last = next(iter(earlier(history(folder))), None)
            if last is None:
                raise Unavailable("there is no previous promotion in %s" % folder)
            if wrong := trouble(folder, last):
                raise Unavailable("the previous checkpoint cannot be promoted: %s" % wrong)
            return _append(
                folder, last.file, last.sha256, last.size_bytes, last.model, last.version, PREVIOUS
            )
    except OSError as error:
        raise Unavailable("nothing was promoted: %s: %s" % (error.filename, error.strerror)) from None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is(path: Path, digest: Callable[[Path], str], sha256: str) -> bool:
    try:
        return digest(path) == sha256
    except Exception:  # noqa: BLE001 whatever is wrong with it: it is copied anew
        return False


def _copy(folder: Path, source: Path, digest: Callable[[Path], str], sha256: str) -> Path:
    """Put weights in a folder of their own that appears when they are complete; where they are then."""
    partial = folder / (".partial-%d" % os.getpid())
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        target = partial / source.resolve().name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
        if (found := digest(target)) != sha256:
            raise Unavailable("nothing was promoted: the copy has SHA-256 %s, not %s" % (found, sha256))
        _to_disk(target)
        final = folder / sha256[:16]
        if final.exists():  # damaged
            shutil.rmtree(final)
        os.replace(partial, final)
        return final / target.name
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _append(
    folder: Path, file: str, sha256: str, size_bytes: int, model: str, version: str, why: str
) -> Promotion:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    promotion = Promotion(file, sha256, size_bytes, model, version, now, why)
    promotions = [*history(folder), promotion][-KEPT:]
    partial = folder / (".%s.%d" % (LIST, os.getpid()))
    text = json.dumps({"format": FORMAT, "promotions": [asdict(p) for p in promotions]}, indent=1)
    partial.write_text(text + "\n", encoding="utf-8")
    _to_disk(partial)
    os.replace(partial, folder / LIST)
    return promotion


def _to_disk(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _inside(file: str) -> bool:
    return not Path(file).is_absolute() and ".." not in Path(file).parts


def _wording(error: Exception) -> str:
    return (error.strerror or "") if isinstance(error, OSError) else str(error) or type(error).__name__
