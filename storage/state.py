"""What progress is made of: the values that go into and come out of the sink. Plain data, no SQL.

Samples are 16 kHz positions within a session; offsets are Kafka's; a sequence counts a session's chunks.
"""

from dataclasses import dataclass

from streams.messages import Alert, Caption, DeadLetter, Event, Origin, SessionKey, Transcript

WHOLE_SESSION = -1  # the channel of the dialog track


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a partition's new owner gets: its epoch, and where to read on (None: never committed)."""

    epoch: int
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class TrackPosition:
    """All of (channel, track) before `sample` is settled; `run_start` begins the contiguous audio it lies in."""

    key: SessionKey
    channel: int
    track: str
    sample: int
    run_start: int
    in_speech: bool


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session as a restart needs it.

    resume_sequence, resume_offset: the first chunk that must be read again.
    seen_offset: the highest offset whose fate is settled, or that will be read again from resume_offset on.
    fates: (offset, reason) of its dead letters from resume_offset on, and (offset, "duplicate") of duplicates. They are
    read back, not written with it.
    """

    key: SessionKey
    topic: str
    partition: int
    channels: int | None
    rate: int | None
    roles: tuple[str, ...] | None
    source: str | None
    resume_sequence: int
    resume_offset: int
    seen_offset: int
    ended: bool
    fates: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class GapRow:
    """Audio that never came: [start_sample, end_sample), and the chunks it was in where that is known."""

    key: SessionKey
    first_sequence: int | None
    last_sequence: int | None
    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """A chunk that came again, dropped and recorded."""

    origin: Origin
    key: SessionKey
    sequence: int


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction: the partition's next offset, moved positions, and everything they settle."""

    topic: str
    partition: int
    epoch: int
    next_offset: int
    sessions: tuple[SessionState, ...] = ()
    positions: tuple[TrackPosition, ...] = ()
    transcripts: tuple[Transcript, ...] = ()
    captions: tuple[Caption, ...] = ()
    events: tuple[Event, ...] = ()
    alerts: tuple[Alert, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    gaps: tuple[GapRow, ...] = ()
    duplicates: tuple[DuplicateRow, ...] = ()
