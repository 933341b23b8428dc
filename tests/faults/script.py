"""What the producers of one run write: sessions of marked audio, and records that no producer should write.

In: a seed and what is to be wrong with the input. Out: `Line`s in the order in which they are produced, each with what
is to become of it. Knows no worker and no store. Invariant: the fate of a line follows from how it was made, never
from the code under test; only whether damaged audio can still be decoded is asked of `streams.audio`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from streams.audio import Pcm
from streams.encode import encode
from streams.messages import Headers, SessionKey, chunk_headers, end_headers
from tests.faults.mark import Int16, stamp
from tests.streams.sound import noise, voice

RATE: Final = 16_000
CHUNK_MS: Final = 200
CHUNK_SAMPLES: Final = RATE * CHUNK_MS // 1000
RAW: Final = "audio/x-raw;format=S16LE"
FLAC: Final = "audio/flac"
SOURCE: Final = "/faults"
EVENTFUL: Final = 12  # chunks, of which at most one has a fate of its own
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)

Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Line:
    """One record. `fate`: chunk (to be placed), end, duplicate, late, or the reason of its dead letter."""

    partition: int
    at_s: float  # when it is sent, after the begin of the run
    key: bytes | None
    value: bytes | None
    headers: Headers
    fate: str
    session: SessionKey | None = None
    sequence: int = -1
    start_sample: int = 0
    samples: int = 0
    content_type: str = ""
    damaged: bool = False
    skew_s: float = 0.0  # how wrong the clock is that stamps it


@dataclass
class Spoken:
    """One session: int16 [channels, n] at 16 kHz, and the voice that each channel is marked with."""

    key: SessionKey
    partition: int
    sound: Int16
    voices: tuple[int, ...]
    ended: bool
    stray: bool = False  # on a partition that is not its stream's: nothing of it is heard


@dataclass
class Script:
    """See the module docstring."""

    partitions: int = 2
    lines: list[Line] = field(default_factory=list)
    sessions: list[Spoken] = field(default_factory=list)

    def speak(
        self,
        key: SessionKey,
        sound: Int16,
        *,
        content_type: str = RAW,
        start_s: float = 0.0,
        ended: bool = True,
        skew: Callable[[float], float] = lambda at_s: 0.0,
        disorder: random.Random | None = None,
        damage: Mapping[int, Damage] | None = None,
        stray_on: int | None = None,
    ) -> Spoken:
        """Send a session, live: chunk after chunk, and the end 3 s after the last.

        `skew`: how wrong the producer's clock is at a time. `damage`: by sequence, what becomes of the bytes.
        `stray_on`: a partition that is not the stream's.
        """
        at = partition_of(key.stream_id, self.partitions) if stray_on is None else stray_on
        fates = ("chunk", "end") if stray_on is None else ("wrong_partition", "wrong_partition")
        spoken = Spoken(key, at, sound, self._voices(sound), ended, stray=stray_on is not None)
        self.sessions.append(spoken)
        encoded = encode(Pcm(sound, RATE), content_type, CHUNK_MS)
        for sequence, chunk in enumerate(encoded.chunks):
            at_s = start_s + chunk.start_sample / encoded.rate
            headers = chunk_headers(
                key,
                sequence,
                chunk.start_sample,
                encoded.content_type,
                source=SOURCE,
                ce_id=f"{key.tenant_id}-{key.stream_id}-{key.session_id}-{start_s}-{sequence}",
                captured_at=EPOCH + timedelta(seconds=at_s + skew(at_s)),
            )
            change = (damage or {}).get(sequence)
            line = Line(
                at,
                at_s,
                key.stream_id.encode(),
                change(chunk.payload) if change else chunk.payload,
                headers,
                fates[0],
                key,
                sequence,
                chunk.start_sample,
                chunk.samples,
                encoded.content_type,
                change is not None,
                skew(at_s),
            )
            self.lines += self._disordered(line, disorder, len(encoded.chunks))
        if ended:
            end = end_headers(
                key, len(encoded.chunks), source=SOURCE, ce_id=f"{key.stream_id}-{key.session_id}-end"
            )
            at_s = start_s + sound.shape[1] / RATE + 3.0
            line = Line(at, at_s, key.stream_id.encode(), b"", end, fates[1], key, skew_s=skew(at_s))
            self.lines.append(line)
        return spoken

    def refuse(
        self,
        at_s: float,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        reason: str,
        partition: int = 0,
    ) -> None:
        """Send a record that must become a dead letter with this reason."""
        self.lines.append(Line(partition, at_s, key, value, headers, reason))

    def again(self, lines: Sequence[Line]) -> list[Line]:
        """The same records once more, by a producer that does not know what became of them."""
        return [replace(line, fate="duplicate") for line in lines]

    def in_order(self) -> list[Line]:
        """As they are produced: by the time at which each was sent."""
        return sorted(self.lines, key=lambda line: line.at_s)

    def _voices(self, sound: Int16) -> tuple[int, ...]:
        """Mark every channel; voices are counted over the whole script."""
        first = 1 + sum(len(s.voices) for s in self.sessions)
        return tuple(range(first, first + sound.shape[0]))

    def _disordered(self, line: Line, rng: random.Random | None, total: int) -> list[Line]:
        if rng is None or line.sequence % EVENTFUL != EVENTFUL // 2 or line.sequence > total - 2 * EVENTFUL:
            return [line]
        match rng.choice(["delayed", "twice", "lost", "late", "none"]):
            case "delayed":
                return [replace(line, at_s=line.at_s + rng.uniform(0.1, 0.7))]
            case "twice":
                return [line, replace(line, at_s=line.at_s + rng.uniform(0.01, 1.9), fate="duplicate")]
            case "lost":
                return []
            case "late":  # the wait for it is 1 s
                return [replace(line, at_s=line.at_s + 2.0, fate="late")]
            case _:
                return [line]


def partition_of(stream: str, partitions: int) -> int:
    """Where the harness sends a stream."""
    return zlib.crc32(stream.encode()) % partitions


def speech(seed: int, seconds: float, channels: int = 1) -> Int16:
    """Voices and quiet lines in turn, int16 [channels, n], not marked yet."""
    rng = random.Random(seed)
    rows = []
    for channel in range(channels):
        parts: list[Int16] = []
        while sum(part.size for part in parts) < seconds * RATE:
            number = seed * 1000 + channel * 100 + len(parts)
            parts += [noise(rng.uniform(0.7, 2.0), number), voice(rng.uniform(0.6, 3.0), number)]
        rows.append(np.concatenate(parts)[: int(seconds * RATE)])
    return np.stack(rows)


def marked(sound: Int16, first_voice: int, actions: Mapping[int, int] | None = None) -> Int16:
    """Every channel with a voice of its own, from `first_voice` on; `actions` in the first channel."""
    rows = [stamp(row, first_voice + n, actions if n == 0 else None) for n, row in enumerate(sound)]
    return np.stack(rows)


def next_voice(script: Script) -> int:
    """The voice that the next session's first channel will have."""
    return 1 + sum(len(s.voices) for s in script.sessions)


def say(
    script: Script,
    seed: int,
    seconds: float,
    key: SessionKey,
    *,
    channels: int = 1,
    actions: Mapping[int, int] | None = None,
    **more: Any,
) -> Spoken:
    """A marked session of speech."""
    sound = marked(speech(seed, seconds, channels), next_voice(script), actions)
    return script.speak(key, sound, **more)


def usual(seed: int, *, seconds: float = 36.0, actions: Mapping[int, int] | None = None) -> Script:
    """Three streams on two partitions: one channel raw, two channels raw, one channel FLAC."""
    script = Script()
    say(script, seed, seconds, session("s0", seed), actions=actions)
    say(script, seed + 1, seconds * 0.8, session("s4", seed), channels=2, start_s=0.03)
    say(script, seed + 2, seconds * 0.6, session("s2", seed), content_type=FLAC, start_s=0.07)
    return script


def session(stream: str, seed: int, number: int = 0, tenant: str = "default") -> SessionKey:
    """A session id that the seed decides."""
    return SessionKey(tenant, stream, f"00000000-0000-4000-{number:04x}-{seed:012x}")
