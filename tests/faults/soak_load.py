"""The load of the soak: sessions of real speech that begin and end all the time, on a few lines at a real-time pace.

In: sound, a seed; a producer. Out: by line and number the script of a session, and what of it was written where. Line 0
plays the same few sessions again and again, so that what the engine says of them can be compared; on all others some
sessions end without a word, and some have chunks that come twice, late, never, out of order or damaged.
Knows no worker and no store. Invariant: a session is a function of seed, line and number alone (but for the serial
number that every Ogg file gets), so nothing of it is kept while the soak runs: it is made again when it is judged.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from streams.messages import SessionKey
from tests.faults.mark import Int16
from tests.faults.script import CHUNK_MS, EVENTFUL, RATE, Line, Script

PARTITIONS: Final = 4
SECONDS: Final = (15.0, 120.0)  # of a session, as many per octave of length
PROBES: Final = 5  # sessions that line 0 plays in turn
PROBE_S: Final = 20.0
REST_S: Final = 2.0  # at most, between two sessions of a line
MUSIC_S: Final = 8.0
IDLE_SHARE: Final = 0.15  # sessions that end without an end mark
TROUBLED_SHARE: Final = 0.5
TROUBLES: Final = ("delayed", "twice", "lost", "late", "damaged", "none")
REORDER_WAIT_S: Final = 2.0  # the worker's setting
DELAY_S: Final = (0.1, 0.7)  # in time, even where the machine is busy
LATE_S: Final = 2 * REORDER_WAIT_S
CODECS: Final = (
    ("audio/x-raw;format=S16LE", 1),
    ("audio/PCMU", 1),
    ("audio/PCMU", 2),
    ("audio/PCMA", 1),
    ("audio/L16", 1),
    ("audio/flac", 1),
    ("audio/flac", 2),
    ("audio/wav", 1),
    ("audio/ogg", 1),
)

Wait = Callable[[float], Awaitable[Any]]


@dataclass(frozen=True, eq=False)
class Sound:
    """What sessions play parts of: int16 [n] at 16 kHz, speech with the pauses of a call, and music."""

    speech: Int16
    music: Int16


@dataclass(frozen=True)
class Played:
    """One session that was written to its end; `offsets` are those of its lines in the order of sending."""

    line: int
    number: int
    offsets: tuple[int, ...]
    late_s: float  # how late the latest record left


@dataclass
class Written:
    """What the broker has so far."""

    played: list[Played] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)  # partition → the offset after the last record
    records: int = 0
    live: int = 0  # sessions under way

    def note(self, partition: int, offset: int) -> None:
        """A record that the broker has answered for."""
        self.records += 1
        self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)


def probe_of(line: int, number: int) -> int | None:
    """Which of the sessions that are played again and again this is, None for one that is played once."""
    return number % PROBES if line == 0 else None


def seconds_of(seed: int, line: int, number: int) -> float:
    """How long a session is."""
    if probe_of(line, number) is not None:
        return PROBE_S
    low, high = np.log(SECONDS)
    return round(float(np.exp(_rng(seed, line, number, "length").uniform(low, high))), 1)


def session_of(seed: int, line: int, number: int, sound: Sound) -> Script:
    """The script of one session, its first chunk at 0 s."""
    probe = probe_of(line, number)
    rng = _rng(seed, line, number, "session") if probe is None else _rng(seed, 0, probe, "probe")
    seconds = seconds_of(seed, line, number)
    key = SessionKey("default", f"line-{line}", f"{seed:08x}-{line:04x}-4000-8000-{number:012x}")
    content_type, channels = rng.choice(CODECS)
    heard = np.stack([_stretch(rng, sound, seconds) for _ in range(channels)])
    ended = probe is not None or rng.random() >= IDLE_SHARE
    fates: dict[int, str] = {}
    if probe is None and rng.random() < TROUBLED_SHARE:
        last = int(seconds * 1000 / CHUNK_MS) - 2 * EVENTFUL
        fates = {at: rng.choice(TROUBLES) for at in range(EVENTFUL // 2, last, EVENTFUL)}
    damage = {at: _damage(rng) for at, fate in fates.items() if fate == "damaged"}
    script = Script(PARTITIONS)
    script.speak(key, heard, content_type=content_type, ended=ended, damage=damage)
    script.lines = [changed for one in script.lines for changed in _fate(one, fates, rng)]
    return script


async def play_line(
    line: int, seed: int, sound: Sound, producer: Any, topic: str, until_s: float, written: Written
) -> None:
    """Session after session in real time; the last one begins before `until_s` (of the monotonic clock)."""
    number = 0
    while time.monotonic() < until_s:
        script = await asyncio.to_thread(session_of, seed, line, number, sound)
        await asyncio.sleep(_rng(seed, line, number, "rest").uniform(0.0, REST_S))
        written.live += 1
        offsets, late_s = await _send(script, producer, topic, written)
        written.live -= 1
        written.played.append(Played(line, number, offsets, late_s))
        number += 1


async def _send(script: Script, producer: Any, topic: str, written: Written) -> tuple[tuple[int, ...], float]:
    """Each record when it is due, stamped with that time; the offsets, and how late the latest was."""
    began_s, stamped_s = time.monotonic(), time.time()
    acks, late_s = [], 0.0
    for one in script.in_order():
        await asyncio.sleep(max(0.0, began_s + one.at_s - time.monotonic()))
        ack = await producer.send(
            topic,
            value=one.value,
            key=one.key,
            partition=one.partition,
            timestamp_ms=int((stamped_s + one.at_s) * 1000),
            headers=one.headers,
        )
        late_s = max(late_s, time.monotonic() - began_s - one.at_s)
        ack.add_done_callback(lambda done: written.note(done.result().partition, done.result().offset))
        acks.append(ack)
    return tuple(found.offset for found in await asyncio.gather(*acks)), late_s


def _rng(seed: int, line: int, number: int, what: str) -> random.Random:
    return random.Random(f"{seed}/{line}/{number}/{what}")


def _stretch(rng: random.Random, sound: Sound, seconds: float) -> Int16:
    """int16 [n]: somewhere in the speech; in a long session of four a piece of music in its middle."""
    size = int(seconds * RATE)
    start = rng.randrange(sound.speech.size - size)
    heard = sound.speech[start : start + size].copy()
    piece = int(MUSIC_S * RATE)
    if size > 4 * piece and rng.random() < 0.25:
        begin = rng.randrange(sound.music.size - piece)
        heard[size // 2 : size // 2 + piece] = sound.music[begin : begin + piece]
    return heard


def _damage(rng: random.Random) -> Callable[[bytes], bytes]:
    """Cut off, or the second half scrambled."""
    part = rng.uniform(0.02, 0.98)
    if rng.random() < 0.5:
        return lambda payload: payload[: max(1, int(len(payload) * part))]
    return lambda payload: (
        payload[: len(payload) // 2] + bytes(b ^ 0x55 for b in payload[len(payload) // 2 :])
    )


def _fate(one: Line, fates: dict[int, str], rng: random.Random) -> list[Line]:
    match fates.get(one.sequence):
        case "delayed":
            return [replace(one, at_s=one.at_s + rng.uniform(*DELAY_S))]
        case "twice":
            return [one, replace(one, at_s=one.at_s + rng.uniform(0.01, 1.9), fate="duplicate")]
        case "lost":
            return []
        case "late":
            return [replace(one, at_s=one.at_s + LATE_S, fate="late")]
        case _:
            return [one]
