"""Scenes: several people speak on one or two channels, over music, noise, tones and events; and the truth of it all.

In: utterances by speaker, recordings of sounds, a random generator. Out: a `Scene`: audio [channels, samples] and its
`Truth` (truth.py). Knows no model, no caption and no file.
Invariants: a scene is a pure function of its arguments; whatever the truth says was put into the audio here, or is
known from the utterance's source; what is not known is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from model.train import sounds
from model.train.audio import RATE_HZ, Wave, at_level, rms
from model.train.lines import background_under, draw_background, draw_line, through
from model.train.sounds import Recordings, SoundClass
from model.train.truth import LOUDNESS, Channel, Heard, Loudness, Segment, Truth

# Chances.
INTRO, OUTRO, HOLD, OVERLAP, LONG_PAUSE, TWO_CHANNELS = 0.35, 0.2, 0.1, 0.25, 0.1, 0.5
# Seconds.
PAUSE_S, LONG_PAUSE_S, OVERLAP_S, SOUND_S, EVENT_S = (0.1, 1.2), (1.5, 3.0), (0.2, 0.9), (1.0, 4.0), 3.0
LONGEST_S = 28.0
# How much louder than the loudness of their channel speakers, other sounds and events are, in dB.
SPEAKER_DB, SOUND_DB, EVENT_DB = (-4.0, 4.0), (-6.0, 3.0), (-12.0, 0.0)
EVENT_COUNTS = (0, 0, 1, 2)
# What the sound classes of ESC-10 are called.
EVENTS = {
    "baby_cry": "a crying baby",
    "chainsaw": "a chainsaw",
    "clock_tick": "a ticking clock",
    "dog_bark": "a barking dog",
    "fire_crackling": "a crackling fire",
    "helicopter": "a helicopter",
    "person_sneeze": "a sneeze",
    "rain": "rain",
    "rooster": "a crowing rooster",
    "sea_waves": "sea waves",
}


@dataclass(frozen=True)
class Utterance:
    """One voice saying `text` (plain words); None where the source does not tell.

    `source` and `text_source` name data cards.
    """

    wave: Wave
    text: str
    sex: str | None
    pace: str | None
    origin: str
    voice: str | None = None
    source: str = ""
    text_source: str = ""


@dataclass(frozen=True)
class Speaker:
    """Somebody in a scene: a name that holds within it, and what is said, in order, by one voice."""

    name: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Scene:
    """float32 [channels, samples] in [-1, 1] at 16 kHz."""

    audio_CN: NDArray[np.float32]
    truth: Truth


@dataclass(frozen=True)
class _Placed:
    wave: Wave
    part: Segment | Heard


def compose(
    speakers: Sequence[Speaker],
    recordings: Recordings,
    rng: np.random.Generator,
    channels: int | None = None,
    longest_s: float = LONGEST_S,
) -> Scene:
    """The speakers take turns; on two channels each has a line, background and level of their own.

    `channels`: 1 or 2; None draws, two only for two speakers or more. Turns that would make the scene longer than
    `longest_s` are left out. Raises ValueError when nobody says anything or a first utterance alone is too long.
    """
    turns = _turns(speakers, rng)
    if not turns:
        raise ValueError("a scene needs somebody who speaks")
    if channels is None:
        channels = 2 if len(speakers) > 1 and rng.random() < TWO_CHANNELS else 1
    limit = int(longest_s * RATE_HZ)
    # A dog in the noise would be an event that the truth does not name.
    without_events = replace(recordings, events=(), classes=())
    placed = _timeline(speakers, turns, channels, limit, without_events, rng)
    if not any(isinstance(item.part, Segment) for item in placed):
        raise ValueError(f"the first utterance is longer than {longest_s} s")
    end = max(item.part.end_sample for item in placed)
    samples = min(limit, end + int(rng.uniform(0.05, 0.6) * RATE_HZ))
    placed += _events(placed, samples, recordings, rng)
    return _mix(placed, samples, channels, without_events, rng)


def _turns(speakers: Sequence[Speaker], rng: np.random.Generator) -> list[tuple[int, Utterance]]:
    """(speaker's number, utterance): mostly in turn, each one's own in order."""
    waiting = [list(speaker.utterances) for speaker in speakers]
    turns: list[tuple[int, Utterance]] = []
    while any(waiting):
        able = [number for number, left in enumerate(waiting) if left]
        others = [number for number in able if not turns or number != turns[-1][0]]
        if not turns:
            number = able[0]
        else:
            number = int(rng.choice(others if others and rng.random() < 0.85 else able))
        turns.append((number, waiting[number].pop(0)))
    return turns


def _timeline(
    speakers: Sequence[Speaker],
    turns: Sequence[tuple[int, Utterance]],
    channels: int,
    limit: int,
    recordings: Recordings,
    rng: np.random.Generator,
) -> list[_Placed]:
    """Turns and the sounds around them, one after the other; a speaker may begin before another one ends."""
    base_dbfs = [_level_dbfs(rng) for _ in range(channels)]
    level_dbfs = [base_dbfs[n % channels] + float(rng.uniform(*SPEAKER_DB)) for n in range(len(speakers))]
    placed: list[_Placed] = []
    cursor = int(rng.uniform(0.05, 0.6) * RATE_HZ)
    if rng.random() < INTRO:
        kind: SoundClass = rng.choice(["tones", "tones", "music", "noise"])
        cursor = _sound(placed, kind, cursor, limit, base_dbfs, recordings, rng)
    for count, (number, utterance) in enumerate(turns):
        if count >= 2 and rng.random() < HOLD:
            cursor = _sound(placed, "music", cursor, limit, base_dbfs, recordings, rng)
        start = _start(placed, speakers[number].name, cursor, rng)
        end = start + len(utterance.wave)
        if end > limit:
            break
        part = Segment(
            start_sample=start,
            end_sample=end,
            channel=number % channels,
            speaker=speakers[number].name,
            text=utterance.text,
            voice=utterance.voice,
            gender=utterance.sex,
            pace=utterance.pace,
            level_dbfs=level_dbfs[number],
            source=utterance.source,
            text_source=utterance.text_source,
        )
        placed.append(_Placed(at_level(utterance.wave, part.level_dbfs), part))
        pause_s = rng.uniform(*(LONG_PAUSE_S if rng.random() < LONG_PAUSE else PAUSE_S))
        cursor = max(cursor, end + int(pause_s * RATE_HZ))
    if rng.random() < OUTRO:
        _sound(placed, "tones", cursor, limit, base_dbfs, recordings, rng)
    return placed


def _level_dbfs(rng: np.random.Generator) -> float:
    """The loudness of a channel: half of them are normal."""
    loudness: Loudness = rng.choice(["quiet", "normal", "normal", "loud"])
    return float(rng.uniform(*LOUDNESS[loudness]))


def _start(placed: Sequence[_Placed], name: str, cursor: int, rng: np.random.Generator) -> int:
    """The cursor, or earlier: into the second half of another one's words, but not into one's own."""
    last = placed[-1].part if placed else None
    if not isinstance(last, Segment) or last.speaker == name or rng.random() >= OVERLAP:
        return cursor
    length = last.end_sample - last.start_sample
    start = last.end_sample - min(length // 2, int(rng.uniform(*OVERLAP_S) * RATE_HZ))
    spoken = [item.part for item in placed if isinstance(item.part, Segment)]
    pause = int(PAUSE_S[0] * RATE_HZ)
    return max([start, *(part.end_sample + pause for part in spoken if part.speaker == name)])


def _sound(
    placed: list[_Placed],
    kind: SoundClass,
    start: int,
    limit: int,
    base_dbfs: Sequence[float],
    recordings: Recordings,
    rng: np.random.Generator,
) -> int:
    """Place a piece of a sound, if it still fits; returns where the next thing may begin."""
    sound = sounds.draw(kind, int(rng.uniform(*SOUND_S) * RATE_HZ), recordings, rng)
    end = start + len(sound.wave)
    if end > limit:
        return start
    channel = int(rng.integers(len(base_dbfs)))
    level_dbfs = base_dbfs[channel] + float(rng.uniform(*SOUND_DB))
    part = Heard(start, end, channel, kind, sound.detail, level_dbfs, sound.source)
    placed.append(_Placed(at_level(sound.wave, level_dbfs), part))
    return end + int(rng.uniform(*PAUSE_S) * RATE_HZ)


def _events(
    placed: Sequence[_Placed], samples: int, recordings: Recordings, rng: np.random.Generator
) -> list[_Placed]:
    """Events anywhere in the scene, on the channel of somebody."""
    spoken = [item.part for item in placed if isinstance(item.part, Segment)]
    found: list[_Placed] = []
    for _ in range(int(rng.choice(EVENT_COUNTS)) if recordings.classes else 0):
        wave, name = sounds.event(recordings, min(samples, int(EVENT_S * RATE_HZ)), rng)
        start = int(rng.integers(0, samples - len(wave) + 1))
        beside = spoken[int(rng.integers(len(spoken)))]
        wave = at_level(wave, beside.level_dbfs + float(rng.uniform(*EVENT_DB)))
        detail = EVENTS.get(name, name.replace("_", " "))
        end = start + len(wave)
        part = Heard(start, end, beside.channel, "event", detail, 0.0, sounds.EVENT_SOURCE)
        found.append(_Placed(wave, part))
    return found


def _mix(
    placed: Sequence[_Placed],
    samples: int,
    channels: int,
    recordings: Recordings,
    rng: np.random.Generator,
) -> Scene:
    """Add everything up, send each channel through its line, and note the levels that came out."""
    audio_CN = np.zeros((channels, samples), np.float32)
    truths: list[Channel] = []
    gains: list[float] = []
    for channel in range(channels):
        mine = [item for item in placed if item.part.channel == channel]
        wave = np.zeros(samples, np.float32)
        for item in mine:
            wave[item.part.start_sample : item.part.end_sample] += item.wave
        spoken = [item.wave for item in mine if isinstance(item.part, Segment)]
        kind = draw_background(rng) if spoken else "clean"
        weakest = min((rms(item.wave) for item in mine), default=1e-3)
        below = background_under(kind, samples, weakest, recordings, rng)
        wave = wave + below.wave
        peak = float(np.abs(wave).max())
        gain = min(1.0, 0.99 / peak) if peak > 0 else 1.0
        line = draw_line(rng)
        sent = through(line, (wave * gain).astype(np.float32), rng)
        audio_CN[channel] = np.clip(sent.wave, -1, 1)
        snr_db = below.snr_db
        if snr_db is not None:
            snr_db = round(snr_db + _dbfs(rms(np.concatenate(spoken))) - _dbfs(weakest), 2)
        truths.append(Channel(line, kind, snr_db, sent.clipped, sent.lost_packets, below.source))
        gains.append(gain * sent.gain)
    parts = [
        replace(item.part, level_dbfs=_dbfs(rms(item.wave) * gains[item.part.channel])) for item in placed
    ]
    return Scene(
        audio_CN,
        Truth(
            RATE_HZ,
            samples,
            tuple(truths),
            tuple(sorted((p for p in parts if isinstance(p, Segment)), key=lambda p: p.start_sample)),
            tuple(sorted((p for p in parts if isinstance(p, Heard)), key=lambda p: p.start_sample)),
        ),
    )


def _dbfs(level: float) -> float:
    return round(20 * float(np.log10(level)), 2)
