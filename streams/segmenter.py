"""In: one flag per 20 ms frame after a boundary, voiced or not. Out: where the next boundary of the speech track lies.

Pure bookkeeping in frames counted from the boundary; it knows no audio. A segmenter lives until its first decision: the
caller sets the boundary there and starts a fresh one. Invariant: decisions depend only on the flags and on whether the
boundary lay in speech.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SegmenterConfig:
    """All in frames of 20 ms."""

    start_voiced: int  # this many voiced frames …
    start_within: int  # … among this many: speech begins at the first of them
    stop_voiced: int  # at most this many voiced frames …
    hang: int  # … among this many: speech has ended
    pre_roll: int
    post_roll: int
    min_speech: int
    max_window: int
    silence_step: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing was said before frame `end`."""

    end: int


@dataclass(frozen=True, slots=True)
class Speech:
    """A window of frames [start, end); the last voiced frame ends at `speech_end`."""

    start: int
    end: int
    speech_end: int


@dataclass(frozen=True, slots=True)
class Split:
    """The window from `start` is as long as it may be: cut it at the quietest frame of [first, last)."""

    start: int
    first: int
    last: int


Decision = Silence | Speech | Split


class Segmenter:
    """Finds the first decision after a boundary."""

    __slots__ = (
        "_carried",
        "_config",
        "_frames",
        "_last_voiced",
        "_onset",
        "_recent",
        "_start",
        "_start_mask",
        "_stop_mask",
    )

    def __init__(self, config: SegmenterConfig, in_speech: bool) -> None:
        self._config = config
        self._start_mask = (1 << config.start_within) - 1
        self._stop_mask = (1 << config.hang) - 1
        self._frames = 0
        self._carried = in_speech  # speech goes on from before the boundary, so that even a short rest counts
        self._start = 0 if in_speech else -1  # first frame of the open window, -1 without one
        self._onset = 0
        self._last_voiced = -1
        self._recent = self._stop_mask if in_speech else 0  # one bit per frame, the latest lowest

    def push(self, voiced: bool) -> Decision | None:
        """Take the next frame's flag."""
        config = self._config
        recent = self._recent = (self._recent << 1 | voiced) & self._stop_mask
        frame = self._frames
        self._frames = frame + 1
        if self._start < 0:
            if voiced and (recent & self._start_mask).bit_count() >= config.start_voiced:
                self._onset = frame + 1 - (recent & self._start_mask).bit_length()
                self._start = max(0, self._onset - config.pre_roll)
                self._last_voiced = frame
            elif self._frames >= config.silence_step:
                return Silence(config.silence_step - config.pre_roll)
            return None
        if voiced:
            self._last_voiced = frame
        elif recent.bit_count() <= config.stop_voiced:
            return self._stop()
        if self._frames - self._start >= config.max_window:
            return Split(self._start, self._frames - config.max_window // 3, self._frames)
        return None

    def close(self) -> Speech | None:
        """The audio ends here: the window that is still open, if it holds speech."""
        return self._stop() if self._start >= 0 else None

    def _stop(self) -> Speech | None:
        start, end = self._start, self._last_voiced + 1
        if end - self._onset >= (1 if self._carried else self._config.min_speech):
            return Speech(start, min(end + self._config.post_roll, self._frames), end)
        self._start, self._recent, self._carried = -1, 0, False
        return None
