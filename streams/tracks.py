"""In: the 16 kHz audio of one channel, run by run. Out: cuts of its speech track and of its scene track.

A run is a stretch without a hole. Positions are 16 kHz samples of the session. This file does not know chunks, rates or
sequence numbers (`windows` does). Invariant: what follows a boundary depends only on the boundary and on the audio from
`warm_up` before it on, clipped to the run: after each boundary the live code starts exactly as a restart would.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from streams.resample import SAMPLE_RATE_HZ
from streams.segmenter import Segmenter, SegmenterConfig, Silence, Speech, Split
from streams.vad import FRAME_SAMPLES, Detector, frames, warmed

Int16 = npt.NDArray[np.int16]


class Track(StrEnum):
    """What a position belongs to."""

    SPEECH = "speech"
    SCENE = "scene"
    DIALOG = "dialog"


@dataclass(frozen=True)
class CutterConfig:
    """How audio is cut."""

    vad_mode: int = 2
    start_voiced_ms: int = 60
    start_within_ms: int = 100
    stop_voiced_ms: int = 40
    hang_ms: int = 500
    pre_roll_ms: int = 300
    post_roll_ms: int = 200
    min_speech_ms: int = 200
    max_window_s: float = 30.0
    silence_step_s: float = 5.0
    scene_hop_s: float = 10.0
    scene_min_s: float = 1.0
    warm_up_s: float = 1.0
    slack_ms: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.vad_mode <= 3:
            raise ValueError("vad_mode is 0 to 3")
        if self.post_roll_ms > self.hang_ms - self.stop_voiced_ms:
            raise ValueError("post_roll_ms must be shorter than the wait for the end of speech")
        if self.slack_ms < 100:
            raise ValueError("slack_ms must cover the 100 ms across which chunks are joined")
        if self.silence_step_s * 1000 < 2 * self.pre_roll_ms:
            raise ValueError("silence_step_s must be well above pre_roll_ms")
        if self.max_window_s * 1000 < 4 * (self.hang_ms + self.pre_roll_ms):
            raise ValueError("max_window_s is too short for pre-roll and hang")

    @property
    def warm_up_samples(self) -> int:
        """Whole frames, so that frames before and after a boundary fall on one grid."""
        return _frames(self.warm_up_s * 1000) * FRAME_SAMPLES

    @property
    def scene_hop_samples(self) -> int:
        return round(self.scene_hop_s * SAMPLE_RATE_HZ)

    @property
    def scene_min_samples(self) -> int:
        return round(self.scene_min_s * SAMPLE_RATE_HZ)

    @property
    def segmenter(self) -> SegmenterConfig:
        return SegmenterConfig(
            start_voiced=_frames(self.start_voiced_ms),
            start_within=_frames(self.start_within_ms),
            stop_voiced=_frames(self.stop_voiced_ms),
            hang=_frames(self.hang_ms),
            pre_roll=_frames(self.pre_roll_ms),
            post_roll=_frames(self.post_roll_ms),
            min_speech=_frames(self.min_speech_ms),
            max_window=_frames(self.max_window_s * 1000),
            silence_step=_frames(self.silence_step_s * 1000),
        )


@dataclass(frozen=True)
class Boundary:
    """Where one track stands: all before `sample` is settled; warm-up never reaches before `run_start`."""

    sample: int
    run_start: int
    in_speech: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """A step of one track: [start, after.sample) is settled. `window` (start, end) is to be analysed, if any."""

    after: Boundary
    window: tuple[int, int] | None
    speech_end: int = 0


class Audio:
    """The recent 16 kHz audio of one channel: samples [start, end) of the session."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self._samples = np.zeros(0, np.int16)  # grows with what is held, and shrinks again
        self._first = 0  # index of `start`

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return self._samples.nbytes

    def append(self, samples: Int16) -> None:
        """Add int16 [n]."""
        held = self.end - self.start
        if self._first + held + samples.size > self._samples.size:
            moved = np.zeros(2 * (held + samples.size), np.int16)
            moved[:held] = self._samples[self._first : self._first + held]
            self._samples, self._first = moved, 0
        at = self._first + held
        self._samples[at : at + samples.size] = samples
        self.end += samples.size

    def view(self, start: int, end: int) -> Int16:
        """int16 [end − start], valid until the next append."""
        if not self.start <= start <= end <= self.end:
            raise IndexError(f"[{start}, {end}) is not within [{self.start}, {self.end})")
        at = self._first + start - self.start
        return self._samples[at : at + end - start]

    def drop_before(self, sample: int) -> None:
        """Forget what lies before `sample`."""
        sample = min(max(sample, self.start), self.end)
        self._first += sample - self.start
        self.start = sample


class SpeechTrack:
    """Cuts speech into windows, and silence into steps."""

    def __init__(self, config: CutterConfig, boundary: Boundary) -> None:
        self.boundary = boundary
        self._config = config
        self._segmenter_config = config.segmenter
        self._detect: Detector | None = None  # None until the audio reaches the boundary
        self._segmenter = Segmenter(self._segmenter_config, boundary.in_speech)
        self._cursor = boundary.sample

    @property
    def needs(self) -> int:
        """First sample of the run that is still needed."""
        return max(self.boundary.run_start, self.boundary.sample - self._config.warm_up_samples)

    def restart(self, boundary: Boundary) -> None:
        """Go on from `boundary`, with no other past."""
        self.boundary = boundary
        self._detect = None
        self._segmenter = Segmenter(self._segmenter_config, boundary.in_speech)
        self._cursor = boundary.sample

    def advance(self, audio: Audio) -> list[Piece]:
        """Read what has been appended to `audio`."""
        pieces: list[Piece] = []
        while (piece := self._read(audio)) is not None:
            pieces.append(piece)
            self.restart(piece.after)
        return pieces

    def close(self, audio: Audio) -> list[Piece]:
        """The run ends where `audio` ends: settle all of it. The position is then the start of a run to come."""
        pieces: list[Piece] = []
        if self.boundary.sample > audio.end or self.boundary == Boundary(audio.end, audio.end):
            return pieces
        closed = Boundary(audio.end, audio.end)
        while self.boundary.sample < audio.end:
            pieces += self.advance(audio)
            speech = self._segmenter.close()
            if speech is None:
                break
            whole = speech.end * FRAME_SAMPLES + self.boundary.sample
            end = audio.end if whole + FRAME_SAMPLES > audio.end else whole
            after = closed if end == audio.end else Boundary(end, self.boundary.run_start)
            pieces.append(self._window(speech, end, after))
            self.restart(after)
        if self.boundary != closed:
            pieces.append(Piece(closed, None))
            self.restart(closed)
        return pieces

    def _read(self, audio: Audio) -> Piece | None:
        if audio.end < self._cursor + FRAME_SAMPLES:
            return None
        if self._detect is None:
            self._detect = warmed(self._config.vad_mode, audio.view(self.needs, self.boundary.sample))
        detect, push = self._detect, self._segmenter.push
        for count, frame in enumerate(frames(audio.view(self._cursor, audio.end)), 1):
            decision = push(detect(frame))
            if decision is not None:
                self._cursor += count * FRAME_SAMPLES
                return self._piece(decision, audio)
        self._cursor += (audio.end - self._cursor) // FRAME_SAMPLES * FRAME_SAMPLES
        return None

    def _piece(self, decision: Silence | Speech | Split, audio: Audio) -> Piece:
        base, run_start = self.boundary.sample, self.boundary.run_start
        match decision:
            case Silence(end):
                return Piece(Boundary(base + end * FRAME_SAMPLES, run_start), None)
            case Speech(_, end, _):
                at = base + end * FRAME_SAMPLES
                return self._window(decision, at, Boundary(at, run_start))
            case Split(start, first, last):
                quietest = first + _quietest(
                    audio.view(base + first * FRAME_SAMPLES, base + last * FRAME_SAMPLES)
                )
                at = base + quietest * FRAME_SAMPLES
                return self._window(
                    Speech(start, quietest, quietest), at, Boundary(at, run_start, in_speech=True)
                )

    def _window(self, speech: Speech, end: int, after: Boundary) -> Piece:
        base = self.boundary.sample
        speech_end = min(base + speech.speech_end * FRAME_SAMPLES, end)
        return Piece(after, (base + speech.start * FRAME_SAMPLES, end), speech_end)


class SceneTrack:
    """Cuts a run along the session's grid, whatever is heard."""

    def __init__(self, config: CutterConfig, boundary: Boundary) -> None:
        self.boundary = boundary
        self._config = config

    @property
    def needs(self) -> int:
        """First sample of the run that is still needed."""
        return self.boundary.sample

    def restart(self, boundary: Boundary) -> None:
        """Go on from `boundary`."""
        self.boundary = boundary

    def advance(self, audio: Audio) -> list[Piece]:
        """Read what has been appended to `audio`."""
        pieces: list[Piece] = []
        hop = self._config.scene_hop_samples
        while (grid := (self.boundary.sample // hop + 1) * hop) <= audio.end:
            pieces.append(self._cut(Boundary(grid, self.boundary.run_start)))
        return pieces

    def close(self, audio: Audio) -> list[Piece]:
        """The run ends where `audio` ends: settle all of it."""
        closed = Boundary(audio.end, audio.end)
        if self.boundary.sample > audio.end or self.boundary == closed:
            return []
        return [*self.advance(audio), self._cut(closed)]

    def _cut(self, after: Boundary) -> Piece:
        start, end = self.boundary.sample, after.sample
        self.boundary = after
        return Piece(after, (start, end) if end - start >= self._config.scene_min_samples else None, end)


def needed_sample(boundary: Boundary, config: CutterConfig) -> int:
    """Lowest 16 kHz sample that must be read again to go on from this boundary.

    A chunk may be let go when `floor(16000 · end / rate)` of its end is not above it. The slack covers chunks that were
    padded or trimmed, and the resampler's neighbourhood; at the start of a run there is nothing before to cover.
    """
    warm = boundary.sample - config.warm_up_samples
    if warm <= boundary.run_start:
        return boundary.run_start
    return max(boundary.run_start, warm - config.slack_ms * SAMPLE_RATE_HZ // 1000 - FRAME_SAMPLES)


def _frames(duration_ms: float) -> int:
    return max(1, round(duration_ms * SAMPLE_RATE_HZ / 1000 / FRAME_SAMPLES))


def _quietest(audio: Int16) -> int:
    """Index of the quietest frame of int16 [n · 320], by the energy of five frames around it."""
    energy = np.square(audio.reshape(-1, FRAME_SAMPLES).astype(np.int64)).sum(axis=1)
    padded = np.pad(energy, 2, mode="edge")
    return int(np.argmin(np.lib.stride_tricks.sliding_window_view(padded, 5).sum(axis=1)))
