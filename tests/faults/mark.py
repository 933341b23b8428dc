"""A mark in the lowest bit of every sample: whose audio it is, where it lies, and what the engine is to do with it.

In: int16 audio and a voice (a number for one channel of one session). Out: the same audio, marked; and from any stretch
of it, wherever it was cut, the voice and the samples again. So an engine process, which is told neither stream nor
tenant, can say whose audio it got, and a swap or a leak shows. Knows no Kafka and no SQL.
Invariant: a stretch is read as one voice only where all of it is that voice's, without a hole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Int16 = npt.NDArray[np.int16]

WORD: Final = 64  # samples; 16 bits to find it, 4 what to do, 12 the voice, 32 its place
FOUND_BY: Final = 0xB5E3

NOTHING: Final = 0
KILLS: Final = 1  # the engine process dies of it, every time
KILLS_ONCE: Final = 2
STOPS_ONCE: Final = 3  # SIGSTOP: no answer and no sign of life
HANGS_ONCE: Final = 4  # no answer, but its heart beats


@dataclass(frozen=True, slots=True)
class Reading:
    """What a stretch of audio says of itself: samples [start, end) of a voice, and the strongest action in it."""

    voice: int
    start: int
    end: int
    action: int
    place: int  # of the action, in words


def stamp(audio: Int16, voice: int, actions: Mapping[int, int] | None = None) -> Int16:
    """Mark int16 [n], the whole of a voice; `actions` by the sample from which the engine must do something."""
    words = -(-audio.size // WORD)
    place = np.arange(words, dtype=np.uint64)
    action = np.zeros(words, np.uint64)
    for sample, number in (actions or {}).items():
        action[sample // WORD] = number
    value = np.uint64(FOUND_BY) << np.uint64(48) | action << np.uint64(44) | np.uint64(voice) << np.uint64(32)
    shifts = np.arange(WORD - 1, -1, -1, dtype=np.uint64)
    bits = ((value | place)[:, None] >> shifts & np.uint64(1)).reshape(-1)[: audio.size]
    return (audio & ~np.int16(1)) | bits.astype(np.int16)


def read(audio: Int16) -> Reading | None:
    """Whose int16 [n] this is; None where it is not one voice without a hole, or too short to tell."""
    bits = (audio & 1).astype(np.uint64)
    shifts = np.arange(WORD - 1, -1, -1, dtype=np.uint64)
    for offset in range(min(WORD, audio.size - WORD + 1)):
        whole = bits[offset : offset + (audio.size - offset) // WORD * WORD].reshape(-1, WORD)
        if int((whole[0] << shifts).sum()) >> 48 != FOUND_BY:
            continue
        values = (whole << shifts).sum(axis=1, dtype=np.uint64)
        voices = values >> np.uint64(32) & np.uint64(0xFFF)
        places = (values & np.uint64(0xFFFFFFFF)).astype(np.int64)
        found = (values >> np.uint64(48) == FOUND_BY).all() and (voices == voices[0]).all()
        if found and (np.diff(places) == 1).all():
            actions = values >> np.uint64(44) & np.uint64(0xF)
            start = int(places[0]) * WORD - offset
            at = int(np.argmax(actions))
            return Reading(int(voices[0]), start, start + audio.size, int(actions[at]), int(places[at]))
    return None


def digest(audio: Int16) -> str:
    """Of int16 [n]."""
    return hashlib.sha256(audio.astype("<i2", copy=False).tobytes()).hexdigest()[:16]


def text_of(audio: Int16, task: str) -> str:
    """What is heard in a window: `transcript voice 3 samples 16000 to 48000 of 0123456789abcdef`."""
    found = read(audio)
    whose = f"voice {found.voice} samples {found.start} to {found.end}" if found else f"nobody {audio.size}"
    return f"{task} {whose} of {digest(audio)}"
