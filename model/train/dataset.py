"""The windows that training draws from: shards of encoder states, or manifests of audio.

In: a folder of shards, or samples and the encoder. Out: for any index what the window holds and its states.
Knows no stage and no task. Invariant: what an index gives in an epoch is a pure function of (window, seed, epoch);
a window of which anything is said that augmentation could make untrue is never augmented.

`ShardWindows` are made by the recipe of nano (`model.train.cache`), `CachedWindows` come from a manifest and are
encoded once, `LiveWindows` come from a manifest and are read, augmented and encoded anew each time.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from safetensors import safe_open
from torch import Tensor

from model.encoder import WhisperEncoder
from model.features import n_audio_tokens
from model.train import cache
from model.train.audio import RATE_HZ, Wave, read
from model.train.augment import augment
from model.train.batches import FRAMES_PER_TOKEN
from model.train.cache import Asked, Item, Live, encode, frames_of
from model.train.distributed import Processes
from model.train.manifest import LONGEST_S, ManifestError, Sample
from model.train.windows import QUESTIONS, Window

MANIFEST_SHARDS = "window"


@dataclass(frozen=True)
class Example:
    """A window with its states: what `cache.encode` returned."""

    item: Item
    states: Tensor


class Windows(Protocol):
    """Where examples come from."""

    def parts(self) -> tuple[str, ...]:
        """Names of what is there now; more may come while training runs."""

    def items(self, parts: tuple[str, ...]) -> Sequence[Item]:
        """What the windows of these parts hold; `examples` takes indices into this."""

    def examples(self, indices: Sequence[int], epoch: int, augmented: bool) -> list[Example]:
        """Windows of the parts that `items` was asked for last."""


class _Rows:
    """Where the states of windows lie in shards; read when they are wanted, by way of the system's page cache."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[list[Item], Any]] = {}

    def open(self, path: Path) -> list[Item]:
        if path not in self._open:
            shard: Any = safe_open(path, "pt")
            self._open[path] = (cache.read_items(path), shard.get_slice("states"))
        return self._open[path][0]

    def read(self, path: Path, start: int, end: int) -> Tensor:
        rows: Tensor = self._open[path][1][start:end]
        return rows


def _places(items: Sequence[Item], live: Live) -> Iterator[tuple[Item, int, int]]:
    """Each item of a shard with its rows."""
    start = 0
    for item in items:
        end = start + item.frames * (2 if live == "all" else 1)
        yield item, start, end
        start = end


class ShardWindows:
    """All windows of the shards below a folder."""

    def __init__(self, folder: Path, live: Live) -> None:
        self._folder, self._live, self._rows = folder, live, _Rows()
        self._places: list[tuple[Item, Path, int, int]] = []

    def parts(self) -> tuple[str, ...]:
        """The shards. FileNotFoundError when there is none."""
        names = tuple(
            sorted(str(path.relative_to(self._folder)) for path in self._folder.rglob("*.safetensors"))
        )
        if not names:
            raise FileNotFoundError(f"no shards under {self._folder}; run the features step first")
        return names

    def items(self, parts: tuple[str, ...]) -> list[Item]:
        paths = [self._folder / name for name in parts]
        self._places = [
            (item, path, start, end)
            for path in paths
            for item, start, end in _places(self._rows.open(path), self._live)
        ]
        return [item for item, *_ in self._places]

    def examples(self, indices: Sequence[int], epoch: int, augmented: bool) -> list[Example]:
        chosen = [self._places[index] for index in indices]
        return [Example(item, self._rows.read(path, start, end)) for item, path, start, end in chosen]


class CachedWindows:
    """The windows of a manifest, each encoded once in each of its `views`; the first is the recording as it is."""

    def __init__(self, windows: Sequence[Sequence[Sample]], folder: Path, views: int, live: Live) -> None:
        self._windows, self._folder, self._views, self._live = windows, folder, views, live
        self._rows = _Rows()
        self._found: dict[str, tuple[Path, int, int, int]] = {}
        self._items: list[Item] = []

    def fill(self, encoder: WhisperEncoder, seed: int, processes: Processes) -> int:
        """Encode what is missing, each process a part of it; returns how many views were missing.

        Raises ManifestError for audio that is empty, too long or no audio.
        """
        self._look()
        missing = [
            (window, view)
            for window in self._windows
            for view in range(self._views_of(window))
            if identity(window, view) not in self._found
        ]
        processes.wait()  # before any process writes shards that another would find
        made = (
            (identity(window, view), Window(_view(window, view, seed), None, None), window[0].source)
            for window, view in missing[processes.rank :: processes.world]
        )
        prefix = f"{MANIFEST_SHARDS}-{processes.rank:03d}"
        cache.write_shards(self._folder, prefix, made, encoder, self._live)
        processes.wait()
        self._look()
        self._items = [item_of(window, self._found[identity(window, 0)][3]) for window in self._windows]
        return len(missing)

    def parts(self) -> tuple[str, ...]:
        return ()

    def items(self, parts: tuple[str, ...]) -> list[Item]:
        return self._items

    def examples(self, indices: Sequence[int], epoch: int, augmented: bool) -> list[Example]:
        return [self._example(index, epoch if augmented else 0) for index in indices]

    def _example(self, index: int, epoch: int) -> Example:
        window = self._windows[index]
        # Not every window in the same view at the same time.
        view = (epoch + index) % self._views_of(window) if epoch else 0
        path, start, end, frames = self._found[identity(window, view)]
        item = dataclasses.replace(self._items[index], frames=frames)
        return Example(item, self._rows.read(path, start, end))

    def _views_of(self, window: Sequence[Sample]) -> int:
        return self._views if may_be_augmented(window) else 1

    def _look(self) -> None:
        for path in sorted(self._folder.glob(f"{MANIFEST_SHARDS}-*.safetensors")):
            for item, start, end in _places(self._rows.open(path), self._live):
                self._found[item.identity] = (path, start, end, item.frames)


class LiveWindows:
    """The windows of a manifest, read, augmented and encoded each time they are wanted."""

    def __init__(
        self, windows: Sequence[Sequence[Sample]], encoder: WhisperEncoder, live: Live, seed: int
    ) -> None:
        self._windows, self._encoder, self._live, self._seed = windows, encoder, live, seed
        self._items = [item_of(window, frames_in(seconds(window))) for window in windows]

    def parts(self) -> tuple[str, ...]:
        return ()

    def items(self, parts: tuple[str, ...]) -> list[Item]:
        """`frames` are those of the recording: an augmented one may be a tenth shorter or longer."""
        return self._items

    def examples(self, indices: Sequence[int], epoch: int, augmented: bool) -> list[Example]:
        return [self._example(index, epoch + 1 if augmented else 0) for index in indices]

    def _example(self, index: int, view: int) -> Example:
        window = self._windows[index]
        wave = _view(window, view if may_be_augmented(window) else 0, self._seed)
        states = encode(self._encoder, wave, self._live)
        return Example(dataclasses.replace(self._items[index], frames=frames_of(states, self._live)), states)


def item_of(window: Sequence[Sample], frames: int) -> Item:
    """What a manifest says of a window."""
    spoken = [sample.answer for sample in window if sample.task == "asr"]
    answers = {
        question.name: sample.answer
        for sample in window
        for question in QUESTIONS
        if (sample.prompt, sample.choices) == (question.prompt, question.choices)
    }
    return Item(
        identity(window, 0),
        frames,
        spoken[0] if spoken else None,
        None,
        answers,
        window[0].source,
        tuple(Asked(sample.task, sample.prompt, sample.answer, sample.choices) for sample in window),
    )


def may_be_augmented(window: Sequence[Sample]) -> bool:
    """Whether all that is asked is what was said, not how it sounds."""
    return all(sample.task in ("asr", "semantic") for sample in window)


@functools.lru_cache(maxsize=1 << 20)
def _identity(path: Path, start: float, end: float | None) -> str:
    stat = path.stat()
    key = f"{path}|{stat.st_size}|{stat.st_mtime_ns}|{start}|{end}"
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def identity(window: Sequence[Sample], view: int) -> str:
    """Names a view of a window; another one once the file has changed."""
    return f"{_identity(*window[0].window)}-{view}"


def _view(window: Sequence[Sample], view: int, seed: int) -> Wave:
    """The recording, or a version of it."""
    wave = load(window[0])
    if view == 0:
        return wave
    drawn = hashlib.sha256(f"{seed}|{identity(window, view)}".encode()).digest()
    return augment(wave, np.random.default_rng(int.from_bytes(drawn[:8], "big")))


def load(sample: Sample) -> Wave:
    """The audio that a sample means. Raises ManifestError: no audio, empty, or longer than 30 s."""
    whole = _whole(sample.audio)
    end = len(whole) if sample.end is None else round(sample.end * RATE_HZ)
    wave = whole[round(sample.start * RATE_HZ) : end]
    if len(wave) == 0:
        raise ManifestError(f"{sample.audio}: no audio from {sample.start} s on")
    if len(wave) > LONGEST_S * RATE_HZ:
        raise ManifestError(f"{sample.audio}: {len(wave) / RATE_HZ:.1f} s are too long; give start and end")
    return wave


@functools.lru_cache(maxsize=1)
def _whole(path: Path) -> Wave:
    """The last file is kept: a manifest often names several parts of one in a row."""
    try:
        return read(path)
    except (av.FFmpegError, IndexError) as error:
        raise ManifestError(f"{path}: no audio: {error}") from error


def seconds(window: Sequence[Sample]) -> float:
    """How long a window is, from the file's header where it says so. Raises ManifestError as `load` does."""
    sample = window[0]
    if sample.end is not None:
        return sample.end - sample.start
    try:
        with av.open(str(sample.audio)) as container:
            duration = container.duration
    except av.FFmpegError as error:
        raise ManifestError(f"{sample.audio}: no audio: {error}") from error
    whole_s = len(load(sample)) / RATE_HZ if duration is None else duration / 1e6 - sample.start
    if not 0.0 < whole_s <= LONGEST_S:
        raise ManifestError(f"{sample.audio}: {whole_s:.1f} s; more than 0 and at most 30 s are possible")
    return whole_s


def frames_in(length_s: float) -> int:
    """Encoder frames of so much audio, padded to whole audio tokens."""
    return n_audio_tokens(max(1, round(length_s * RATE_HZ))) * FRAMES_PER_TOKEN
