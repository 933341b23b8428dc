"""What is true about a composed scene: who says what, when and how, and what else is heard.

In: nothing; these are values. Out: the same as plain dictionaries for JSON. Knows no audio and no randomness.
Invariants: times are samples of the scene's audio; a segment's speaker says exactly its text, all of it, between its
start and its end; segments and sounds are in the order of their start.
"""

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from model.train.sounds import SoundClass

Line = Literal["telephone", "wideband"]
Background = Literal["clean", "noise", "music"]
Loudness = Literal["quiet", "normal", "loud"]
# RMS of the speech in dBFS. Between the ranges lies a margin, so that the three words mean something.
LOUDNESS: dict[Loudness, tuple[float, float]] = {
    "quiet": (-42, -34),
    "normal": (-30, -24),
    "loud": (-20, -12),
}


@dataclass(frozen=True)
class Segment:
    """One speaker says one utterance. None: the source does not tell.

    `level_dbfs`: RMS of this speech alone, as sent into the line. `source`, `text_source`: data cards.
    """

    start_sample: int
    end_sample: int
    channel: int
    speaker: str
    text: str
    voice: str | None
    gender: str | None
    pace: str | None
    level_dbfs: float
    source: str
    text_source: str = ""

    @property
    def loudness(self) -> Loudness | None:
        """In words; None between the ranges of LOUDNESS."""
        return next((name for name, (low, high) in LOUDNESS.items() if low <= self.level_dbfs <= high), None)


@dataclass(frozen=True)
class Heard:
    """Something that is no speech: a piece of music, signal tones, noise, or an event such as a barking dog."""

    start_sample: int
    end_sample: int
    channel: int
    kind: SoundClass | Literal["event"]
    detail: str
    level_dbfs: float
    source: str


@dataclass(frozen=True)
class Channel:
    """One line. `snr_db`: speech to background noise or music; None for a clean line. Whatever is heard
    on the channel stands out from its background by 4 dB or more.

    `clipped`: share of its samples that the line's limit cut off. `lost_packets`: pieces of 20–60 ms that are silent.
    """

    line: Line
    background: Background
    snr_db: float | None
    clipped: float
    lost_packets: int
    background_source: str = ""


@dataclass(frozen=True)
class Truth:
    """All of a scene. `samples` is its length."""

    rate_hz: int
    samples: int
    channels: tuple[Channel, ...]
    segments: tuple[Segment, ...]
    sounds: tuple[Heard, ...]

    @property
    def in_order(self) -> tuple[Segment | Heard, ...]:
        """Everything by its start."""
        return tuple(sorted((*self.segments, *self.sounds), key=lambda part: part.start_sample))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in the order of their first words."""
        return tuple(dict.fromkeys(segment.speaker for segment in self.segments))

    @property
    def text(self) -> str:
        """All words, by the start of who says them."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def overlaps(self) -> tuple[tuple[int, int], ...]:
        """Where two people speak at once: (first sample, sample after the last), by start."""
        shared = (
            (max(a.start_sample, b.start_sample), min(a.end_sample, b.end_sample))
            for a, b in combinations(self.segments, 2)
            if a.speaker != b.speaker
        )
        return tuple(sorted(span for span in shared if span[0] < span[1]))

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data cards of everything that is heard."""
        parts = [name for said in self.segments for name in (said.source, said.text_source)]
        parts += [sound.source for sound in self.sounds]
        parts += [channel.background_source for channel in self.channels]
        return tuple(sorted({part for part in parts if part}))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields, and what follows from them."""
        return {
            **asdict(self),
            "segments": [{**asdict(segment), "loudness": segment.loudness} for segment in self.segments],
            "speakers": self.speakers,
            "text": self.text,
            "overlaps": self.overlaps,
            "order": [part.speaker if isinstance(part, Segment) else part.detail for part in self.in_order],
            "sources": self.sources,
        }
