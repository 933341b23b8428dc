"""Sounds without words: music, signal tones, noises, silence; synthetic, or cut from recordings.

In: a generator and a number of samples. Out: a `Sound`: the waveform, its class and what exactly it is.
Knows no speech and no captions. Invariant: nothing here holds a spoken word; held-out recordings come only when they
are asked for (`held_out=True`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from model.train.audio import RATE_HZ, Wave, at_level, change_speed, read, smooth_length, trim

SoundClass = Literal["music", "tones", "noise", "silence"]
# Names of data cards.
MADE, MUSIC_SOURCE, EVENT_SOURCE = "made", "asterisk-moh", "esc10"
HELD_OUT_MUSIC = ("macroform-the_simplicity", "reno_project-system")
HELD_OUT_FOLD = "4"
# Telephone tones: frequencies in Hz and on/off times in s.
CADENCES: dict[str, tuple[tuple[float, ...], float, float]] = {
    "a dial tone": ((350.0, 440.0), 3600.0, 0.0),
    "a ringing tone": ((440.0, 480.0), 2.0, 4.0),
    "a british ringing tone": ((400.0, 450.0), 0.4, 0.2),
    "a busy tone": ((480.0, 620.0), 0.5, 0.5),
    "a fast busy tone": ((480.0, 620.0), 0.25, 0.25),
    "a fax tone": ((1100.0,), 0.5, 3.0),
    "a modem tone": ((2100.0,), 3.3, 0.5),
}
KEYPAD = [(low, high) for low in (697.0, 770.0, 852.0, 941.0) for high in (1209.0, 1336.0, 1477.0)]


@dataclass(frozen=True)
class Sound:
    """`detail` says what it is in a few words, for captions; `source` names the data card."""

    wave: Wave
    kind: SoundClass
    detail: str
    source: str = MADE


@dataclass(frozen=True)
class Recordings:
    """Decoded recordings without words: hold music, and sound events with the class of each ("dog_bark")."""

    music: tuple[Wave, ...]
    events: tuple[Wave, ...]
    classes: tuple[str, ...] = ()


def load_recordings(asterisk: Path, esc10: Path | None, held_out: bool) -> Recordings:
    """The training part, or the held-out part (two music tracks, fold 4 of the events)."""
    tracks = sorted((asterisk / "usr/share/asterisk/moh").glob("*.g722"))
    music = tuple(read(path) for path in tracks if (path.stem in HELD_OUT_MUSIC) == held_out)
    files = sorted(esc10.glob("*/*.ogg")) if esc10 is not None else []
    files = [path for path in files if (path.name[0] == HELD_OUT_FOLD) == held_out]
    return Recordings(music, tuple(map(read, files)), tuple(path.parent.name for path in files))


def draw(kind: SoundClass, samples: int, recordings: Recordings, rng: np.random.Generator) -> Sound:
    """A sound of a class at a level that fits it."""
    if kind == "silence":
        return silence(samples, rng)
    if kind == "tones":
        wave, detail = tones(samples, rng)
        return Sound(at_level(wave, float(rng.uniform(-32, -12))) + _hiss(samples, rng), kind, detail)
    if kind == "music":
        real = len(recordings.music) > 0 and rng.random() < 0.6
        wave = cut(recordings.music, samples, rng, stretch=True) if real else synthetic_music(samples, rng)
        level = float(rng.uniform(-34, -14))
        return Sound(at_level(wave, level), kind, "music", MUSIC_SOURCE if real else MADE)
    real = len(recordings.events) > 0 and rng.random() < 0.4
    wave = cut(recordings.events, samples, rng, stretch=True) if real else synthetic_noise(samples, rng)
    return Sound(at_level(wave, float(rng.uniform(-42, -14))), kind, "noise", EVENT_SOURCE if real else MADE)


def event(recordings: Recordings, longest: int, rng: np.random.Generator) -> tuple[Wave, str]:
    """The loudest piece, at most `longest` samples, of a random recording whose class is known; and that class.

    Raises ValueError when there is none.
    """
    if not recordings.classes:
        raise ValueError("no recordings of events")
    number = int(rng.integers(len(recordings.classes)))
    wave = trim(recordings.events[number], -30.0)
    if len(wave) > longest:
        energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
        start = int(np.argmax(energy[longest:] - energy[:-longest]))
        wave = wave[start : start + longest]
    return wave, recordings.classes[number]


def cut(waves: tuple[Wave, ...], samples: int, rng: np.random.Generator, stretch: bool) -> Wave:
    """A random piece of a random recording, repeated when it is too short."""
    wave = waves[int(rng.integers(len(waves)))]
    factor = float(rng.uniform(0.85, 1.18)) if stretch else 1.0
    need = int(samples * factor) + 2
    if len(wave) < need:
        wave = np.tile(wave, need // max(1, len(wave)) + 1)
    start = int(rng.integers(0, len(wave) - need + 1))
    return change_speed(wave[start : start + need], factor)[:samples]


def silence(samples: int, rng: np.random.Generator) -> Sound:
    """Digital silence, or noise too weak to hear."""
    if rng.random() < 0.3:
        return Sound(np.zeros(samples, np.float32), "silence", "silence")
    wave = coloured(samples, float(rng.choice((0.0, 1.0, 2.0))), rng)
    return Sound(at_level(wave, float(rng.uniform(-88, -60))), "silence", "silence")


def coloured(samples: int, slope: float, rng: np.random.Generator) -> Wave:
    """Noise with power ~ 1 / f^slope: 0 white, 1 pink, 2 brown."""
    length = smooth_length(samples)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hz = np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 20.0)
    return np.fft.irfft(spectrum / hz ** (slope / 2), length)[:samples].astype(np.float32)


def synthetic_noise(samples: int, rng: np.random.Generator) -> Wave:
    """Coloured noise, hum, crackle, or a mixture, sometimes swelling."""
    wave = at_level(coloured(samples, float(rng.uniform(0, 2)), rng), -20)
    time = np.arange(samples) / RATE_HZ
    if rng.random() < 0.25:
        base = float(rng.choice((50.0, 60.0)))
        hum = sum(np.sin(2 * np.pi * base * k * time) / k for k in range(1, 7))
        wave = wave * float(rng.uniform(0.1, 1)) + at_level(np.asarray(hum, np.float32), -20)
    if rng.random() < 0.25:
        clicks = (rng.random(samples) < float(rng.uniform(0.0003, 0.004))) * rng.standard_normal(samples)
        wave = wave + at_level(
            np.convolve(clicks, np.exp(-np.arange(80) / 15.0))[:samples].astype(np.float32), -22
        )
    if rng.random() < 0.4:
        swell = 1 + 0.8 * np.sin(2 * np.pi * float(rng.uniform(0.1, 3)) * time + float(rng.uniform(0, 6)))
        wave = (wave * swell).astype(np.float32)
    if rng.random() < 0.2:
        gate = np.repeat(rng.random(samples // 1600 + 1) < 0.5, 1600)[:samples]
        wave = wave * np.where(gate, 1.0, 0.05)
    return wave.astype(np.float32)


def tones(samples: int, rng: np.random.Generator) -> tuple[Wave, str]:
    """Telephone signals, keypad presses, beeps, rising or falling tones."""
    choice = rng.random()
    if choice < 0.5:
        name = str(rng.choice(list(CADENCES)))
        frequencies, on_s, off_s = CADENCES[name]
        return _cadence(frequencies, on_s, off_s, samples, rng), name.replace("british ", "")
    if choice < 0.7:
        keys = [KEYPAD[int(rng.integers(len(KEYPAD)))] for _ in range(40)]
        return _steps(
            keys, float(rng.uniform(0.08, 0.25)), float(rng.uniform(0.05, 0.25)), samples
        ), "keypad tones"
    if choice < 0.85:
        hz = float(rng.uniform(400, 1800))
        return _cadence(
            (hz,), float(rng.uniform(0.1, 0.8)), float(rng.uniform(0.3, 2.5)), samples, rng
        ), "beeps"
    start = float(rng.uniform(350, 950))
    ratios = sorted(rng.uniform(1, 2.2, 3), reverse=bool(rng.random() < 0.5))
    return _steps([(start * r,) for r in ratios] * 8, 0.33, 0.02, samples), "a sequence of tones"


def _cadence(
    frequencies: tuple[float, ...], on_s: float, off_s: float, samples: int, rng: np.random.Generator
) -> Wave:
    period = on_s + off_s
    time = np.arange(samples) / RATE_HZ
    phase = (time + float(rng.uniform(0, min(on_s, samples / RATE_HZ)))) % period
    wave = sum(np.sin(2 * np.pi * hz * float(rng.uniform(0.99, 1.01)) * time) for hz in frequencies)
    return np.asarray(np.where(phase < on_s, wave, 0.0), np.float32)


def _steps(groups: Sequence[tuple[float, ...]], on_s: float, off_s: float, samples: int) -> Wave:
    wave = np.zeros(samples, np.float32)
    on, period = int(on_s * RATE_HZ), int((on_s + off_s) * RATE_HZ)
    time = np.arange(on) / RATE_HZ
    for i, group in enumerate(groups):
        piece = wave[i * period : i * period + on]
        piece += sum(np.sin(2 * np.pi * hz * time[: len(piece)]) for hz in group)
    return wave


def _hiss(samples: int, rng: np.random.Generator) -> Wave:
    return at_level(coloured(samples, 0.0, rng), float(rng.uniform(-85, -55)))


SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))


def synthetic_music(samples: int, rng: np.random.Generator) -> Wave:
    """A bass, chords and a melody in a random scale and tempo, perhaps with drums."""
    wave = np.zeros(samples + RATE_HZ * 4, np.float32)
    beat = int(RATE_HZ * 60 / float(rng.uniform(60, 160)))
    scale = SCALES[int(rng.integers(len(SCALES)))]
    root_hz = 110.0 * 2 ** (float(rng.integers(-5, 8)) / 12)
    timbre = _timbre(rng)
    drums, lead = rng.random() < 0.5, rng.random() < 0.8
    degree = 0
    for i, start in enumerate(range(0, samples, beat)):
        if i % 4 == 0:
            degree = int(rng.integers(len(scale)))
            for third in (0, 2, 4):
                _note(wave, start, beat * 4, root_hz * _ratio(scale, degree + third), 0.5, timbre)
            _note(wave, start, beat * 2, root_hz / 2 * _ratio(scale, degree), 0.8, timbre)
        if lead and rng.random() < 0.75:
            step = degree + int(rng.integers(0, 8))
            _note(
                wave,
                start + beat // 2 * int(rng.integers(2)),
                beat,
                root_hz * 2 * _ratio(scale, step),
                0.7,
                timbre,
            )
        if drums:
            burst = rng.standard_normal(1600) * np.exp(-np.arange(1600) / (250.0 if i % 2 else 90.0))
            wave[start : start + 1600] += (0.5 * burst).astype(np.float32)
    return wave[:samples]


def _timbre(rng: np.random.Generator) -> tuple[float, float, int]:
    """Decay in s, how fast harmonics fall, how many there are."""
    return float(rng.uniform(0.15, 1.8)), float(rng.uniform(0.6, 2.5)), int(rng.integers(2, 9))


def _ratio(scale: tuple[int, ...], degree: int) -> float:
    return float(2 ** ((scale[degree % len(scale)] + 12 * (degree // len(scale))) / 12))


def _note(
    wave: Wave, start: int, length: int, hz: float, loud: float, timbre: tuple[float, float, int]
) -> None:
    decay_s, fall, harmonics = timbre
    time = np.arange(min(length, len(wave) - start)) / RATE_HZ
    envelope = np.exp(-time / decay_s) * np.minimum(1, time / 0.01)
    tone = sum(np.sin(2 * np.pi * hz * k * time) / k**fall for k in range(1, harmonics + 1) if hz * k < 7500)
    wave[start : start + len(time)] += (loud * envelope * tone).astype(np.float32)
