"""In: the chunks of one session in order, decoded. Out: `Cut`s and `Gap`s on the session's 16 kHz timeline.

Places each chunk on the timeline, joins what belongs together to runs, resamples each run and lets the tracks of each
channel cut it. Knows no Kafka, no database and no clock. Invariant: windows are a pure function of the audio: any
chunking, and a restart from any boundary of an earlier Cut (reading again from the chunk that holds `needed_sample`),
give the same ranges and the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streams.audio import Pcm
from streams.errors import Reject
from streams.resample import SAMPLE_RATE_HZ, Resampler, position
from streams.tracks import Audio, Boundary, CutterConfig, Piece, SceneTrack, SpeechTrack, Track, needed_sample
from streams.wire import Chunk, Origin, SessionKey

__all__ = ["Boundary", "Cut", "CutterConfig", "Gap", "SessionCutter", "Track", "Window", "needed_sample"]

JOIN_LIMIT_PER_S = 10  # chunks that meet within 1/10 s are joined
JOIN_LIMIT_SAMPLES = SAMPLE_RATE_HZ // JOIN_LIMIT_PER_S
MIN_KEPT = 2  # of a chunk that overlaps what is there, at least one half must be new
MAX_TRIMMED = 4  # and of the last second, at most a quarter may have been trimmed away


@dataclass(frozen=True, eq=False)
class Window:
    """Audio to analyse: int16 [n] at 16 kHz, samples [start_sample, end_sample) of one channel of a session."""

    key: SessionKey
    channel: int
    track: Track
    start_sample: int
    end_sample: int
    audio: npt.NDArray[np.int16]
    origin: Origin
    traceparents: tuple[str, ...]
    role: str | None
    speech_end_sample: int


@dataclass(frozen=True)
class Cut:
    """One step of one track. `window` is None where nothing is to be analysed and the position only advances."""

    channel: int
    track: Track
    after: Boundary
    window: Window | None


@dataclass(frozen=True)
class Gap:
    """No audio for [start_sample, end_sample) at 16 kHz; the sequences are those given up, if any were."""

    first_sequence: int | None
    last_sequence: int | None
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class _Source:
    """Which chunk the audio up to `end` came from."""

    end: int
    origin: Origin
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class _Placed:
    """Where a run begins, at the chunk's rate and at 16 kHz, and where the audio before it ended."""

    start_input: int
    begin: int
    end_before: int
    gap: bool


class _Run:
    """A stretch of audio without a hole, all channels side by side."""

    def __init__(self, rate: int, channels: int, start_input: int, start: int) -> None:
        self.rate = rate
        self.end_input = start_input  # at the chunks' rate
        self.resampler = Resampler(rate, channels, start_input, start)
        self.audio = [Audio(start) for _ in range(channels)]
        self.sources: deque[_Source] = deque()
        self._trims: deque[tuple[int, int]] = deque()  # where, and how many samples, at the chunks' rate

    @property
    def end(self) -> int:
        """16 kHz position up to which chunks have come; `audio` lags behind by the resampler's neighbourhood."""
        return position(self.end_input, self.rate)

    def append(self, start: int, samples: npt.NDArray[np.int16]) -> None:
        """Add the part of a chunk that begins at `start` which is not there yet, after silence up to it."""
        trimmed = max(0, self.end_input - start)
        if trimmed:
            self._trims.append((self.end_input, trimmed))
        samples = np.pad(samples[:, trimmed:], ((0, 0), (max(0, start - self.end_input), 0)))
        self.end_input += samples.shape[1]
        self._store(self.resampler.push(samples))

    def trimmed(self) -> int:
        """Samples that were trimmed from chunks in the last second: as much as is read again after a restart."""
        while self._trims and self._trims[0][0] <= self.end_input - self.rate:
            self._trims.popleft()
        return sum(count for _, count in self._trims)

    def flush(self) -> None:
        self._store(self.resampler.flush())

    def sources_of(self, start: int, end: int) -> list[_Source]:
        """The chunks that [start, end) came from."""
        found: list[_Source] = []
        for source in self.sources:
            if source.end > start:
                found.append(source)
            if source.end >= end:
                break
        return found

    def _store(self, samples: npt.NDArray[np.int16]) -> None:
        for audio, row in zip(self.audio, samples, strict=True):
            audio.append(row)


class SessionCutter:
    """Cuts one session; `boundaries` of earlier cuts make it go on where they stand.

    `roles` of its channels are those of the first chunk, or given: () where an earlier life found none.
    """

    def __init__(
        self,
        key: SessionKey,
        config: CutterConfig,
        boundaries: Mapping[tuple[int, Track], Boundary],
        roles: Sequence[str] | None,
    ) -> None:
        self.key = key
        self.config = config
        self._boundaries = dict(boundaries)
        self._roles = None if roles is None else tuple(roles)
        self._rate: int | None = None
        self._tracks: list[dict[Track, SpeechTrack | SceneTrack]] = []
        self._run: _Run | None = None
        self._end_input: int | None = None  # where the last run ended, at the chunks' rate
        self._run_starts = {boundary.run_start for boundary in self._boundaries.values()}

    @property
    def channels(self) -> int | None:
        """Number of channels, None before the first chunk."""
        return len(self._tracks) or None

    @property
    def end_sample(self) -> int:
        """16 kHz position up to which there is audio, or was before a restart."""
        if self._end_input is not None and self._rate is not None:
            return position(self._end_input, self._rate)
        return max((b.sample for b in self._boundaries.values()), default=0)

    @property
    def size_bytes(self) -> int:
        """Memory that the audio takes which is not settled yet."""
        return sum(audio.size_bytes for audio in self._run.audio) if self._run else 0

    def add(self, chunk: Chunk, pcm: Pcm, missing: tuple[int, int] | None) -> list[Cut | Gap]:
        """Place the next chunk; `missing` are sequences given up before it.

        Raises Reject: format_changed (rate or channels are not the session's), overlap (it starts more than 100 ms
        before the end of what is there, or too little of it is new). The session stays as it was then.
        """
        channels, length = pcm.samples.shape
        if self._rate is not None and (pcm.rate, channels) != (self._rate, len(self._tracks)):
            raise Reject(
                "format_changed", f"{pcm.rate} Hz, {channels} channels in a session of another format"
            )
        start = chunk.start_sample
        self._refuse_overlap(start, length, pcm.rate, channels)
        if self._rate is None:
            self._open(pcm.rate, channels)
            self._roles = chunk.roles or () if self._roles is None else self._roles
        out: list[Cut | Gap] = []
        run = self._run
        if (
            run is None
            or start > run.end_input + run.rate // JOIN_LIMIT_PER_S
            or self._starts_run(run, start)
        ):
            out += self.finish()
            placed = self._place(start, length, pcm.rate)
            run = self._run = _Run(pcm.rate, channels, placed.start_input, placed.begin)
            out += self._begin(placed, missing)
        elif missing is not None:
            out.append(Gap(*missing, run.end, max(run.end, position(start, pcm.rate))))
        run.append(start, pcm.samples)
        run.sources.append(_Source(run.end, chunk.origin, chunk.traceparent))
        self._end_input = run.end_input
        out += self._advance(run)
        return out

    def finish(self) -> list[Cut]:
        """End of the session, or of a long pause: close every open window. A later `add` begins a new run."""
        run, self._run = self._run, None
        if run is None:
            return []
        run.flush()
        self._end_input = _input(run.end, run.rate)  # as a restart finds it
        return [
            cut
            for channel, tracks in enumerate(self._tracks)
            for kind, track in tracks.items()
            for cut in self._cuts(run, channel, kind, track.close(run.audio[channel]))
        ]

    def _refuse_overlap(self, start: int, length: int, rate: int, channels: int) -> None:
        """Refuse a chunk for what is there already. Raises Reject(overlap)."""
        end = self._known_end(rate, channels)
        if end is None:
            needed = self._needed(channels)
            if position(start + length, rate) <= needed and position(start, rate) < needed:
                raise Reject("overlap", "lies before all that is still to be settled")
            return
        trimmed = end - start
        if trimmed <= 0:
            return
        if trimmed > rate // JOIN_LIMIT_PER_S:
            raise Reject("overlap", f"starts {trimmed * 1000 // rate} ms before the end of what is there")
        if (length - trimmed) * MIN_KEPT < length or trimmed >= length:
            raise Reject("overlap", "most of it is there already")
        if self._run is not None and (self._run.trimmed() + trimmed) * MAX_TRIMMED > rate:
            raise Reject("overlap", "too much of the last second has been trimmed away")

    def _known_end(self, rate: int, channels: int) -> int | None:
        """Where the audio ends, at the chunks' rate; None where there is none, or it is to be read again."""
        if self._end_input is not None:
            return self._end_input
        found = set(self._boundaries.values())
        end = max((b.sample for b in found), default=0)
        if found != {_at(end)} or len(self._boundaries) != 2 * channels:
            return None
        return _input(end, rate)

    def _needed(self, channels: int) -> int:
        """16 kHz position before which nothing need be read again."""
        if len(self._boundaries) != 2 * channels:
            return 0
        return min(needed_sample(b, self.config) for b in self._boundaries.values())

    def _open(self, rate: int, channels: int) -> None:
        self._rate = rate
        unset = Boundary(-1, -1)
        for channel in range(channels):
            speech = self._boundaries.get((channel, Track.SPEECH), unset)
            scene = self._boundaries.get((channel, Track.SCENE), unset)
            self._tracks.append(
                {Track.SPEECH: SpeechTrack(self.config, speech), Track.SCENE: SceneTrack(self.config, scene)}
            )

    def _starts_run(self, run: _Run, start: int) -> bool:
        """Whether an earlier life began a run at this chunk, or ended one just before it (after an idle flush)."""
        return run.end in self._run_starts or max(run.end, position(start, run.rate)) in self._run_starts

    def _place(self, start: int, length: int, rate: int) -> _Placed:
        """Where the run begins whose first chunk is this one, and where the audio before it ended."""
        chunk_begin = begin = position(start, rate)
        end = self.end_sample
        if self._end_input is not None:
            begin = max(begin, end)
        else:
            resumed = self._resumed_run(begin, position(start + length, rate))
            if resumed is not None:
                begin = end = max(begin, resumed)
        # an earlier run goes up to `begin`: of a chunk that overlaps it only the rest belongs to this one
        start_input = start if begin == chunk_begin else _input(begin, rate)
        return _Placed(start_input, begin, min(end, begin), begin - end > JOIN_LIMIT_SAMPLES)

    def _resumed_run(self, begin: int, chunk_end: int) -> int | None:
        """Start of the run that the first chunk after a restart lies in; None where it begins a new one."""
        starts = [b.run_start for b in self._boundaries.values() if b.run_start < max(chunk_end, begin + 1)]
        if not starts:
            return None
        latest = max(starts)
        if latest >= begin:
            return latest
        inside = [t for tracks in self._tracks for t in tracks.values() if t.boundary.run_start == latest]
        goes_on = any(t.boundary.sample > latest for t in inside)
        return latest if goes_on and all(begin <= t.needs for t in inside) else None

    def _begin(self, placed: _Placed, missing: tuple[int, int] | None) -> list[Cut | Gap]:
        """Set every track that has not been here before to the beginning of the run."""
        out: list[Cut | Gap] = []
        if placed.gap or missing is not None:
            first, last = missing or (None, None)
            out.append(Gap(first, last, placed.end_before, placed.begin))
        for channel, tracks in enumerate(self._tracks):
            for kind, track in tracks.items():
                was = track.boundary
                if was == _at(placed.begin):
                    continue
                if was.sample <= placed.begin and track.needs < placed.begin:
                    track.restart(_at(placed.begin))
                    if placed.begin - max(0, was.sample) > JOIN_LIMIT_SAMPLES:
                        out.append(Cut(channel, kind, track.boundary, None))
                elif track.needs < placed.begin:  # the broker has lost what the warm-up wants to hear
                    track.restart(replace(was, run_start=placed.begin))
        return out

    def _advance(self, run: _Run) -> list[Cut]:
        cuts: list[Cut] = []
        needs = run.end
        for channel, (audio, tracks) in enumerate(zip(run.audio, self._tracks, strict=True)):
            for kind, track in tracks.items():
                cuts += self._cuts(run, channel, kind, track.advance(audio))
            needed = min(track.needs for track in tracks.values())
            audio.drop_before(needed)
            needs = min(needs, needed)
        while run.sources[0].end <= needs and len(run.sources) > 1:
            run.sources.popleft()
        return cuts

    def _cuts(self, run: _Run, channel: int, kind: Track, pieces: list[Piece]) -> list[Cut]:
        return [Cut(channel, kind, piece.after, self._window(run, channel, kind, piece)) for piece in pieces]

    def _window(self, run: _Run, channel: int, kind: Track, piece: Piece) -> Window | None:
        if piece.window is None:
            return None
        start, end = piece.window
        sources = run.sources_of(start, end)
        traceparents = dict.fromkeys(s.traceparent for s in sources if s.traceparent is not None)
        return Window(
            key=self.key,
            channel=channel,
            track=kind,
            start_sample=start,
            end_sample=end,
            audio=run.audio[channel].view(start, end).copy(),
            origin=sources[0].origin,
            traceparents=tuple(traceparents),
            role=self._roles[channel] if self._roles and channel < len(self._roles) else None,
            speech_end_sample=piece.speech_end,
        )


def _input(sample: int, rate: int) -> int:
    """The first sample at `rate` that does not lie before this 16 kHz position."""
    return -(-sample * rate // SAMPLE_RATE_HZ)


def _at(sample: int) -> Boundary:
    return Boundary(sample, sample)
