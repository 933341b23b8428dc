"""The voices of the training data: who speaks, with which program, and who is held out.

In: a random generator. Out: a `Voice` and the rate to speak at. Knows no text and no audio.
Invariant: a held-out voice (program and speaker) is never part of a training plan, nor of a blend in one.
"""

import random
from dataclasses import dataclass
from typing import Literal

Program = Literal["kokoro", "piper", "flite", "espeak", "festival", "pico", "rhvoice"]
Sex = Literal["female", "male"]
Pace = Literal["slow", "normal", "fast"]


@dataclass(frozen=True)
class Voice:
    """`name` is what the program calls the speaker; espeak: language+variant."""

    program: Program
    name: str
    sex: Sex


def _many(program: Program, sex: Sex, names: str) -> tuple[Voice, ...]:
    return tuple(Voice(program, name, sex) for name in names.split())


KOKORO = _many(
    "kokoro",
    "female",
    "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_river af_sarah af_sky "
    "bf_alice bf_emma bf_lily",
) + _many(
    "kokoro",
    "male",
    "am_adam am_echo am_eric am_fenrir am_michael am_onyx am_puck am_santa bm_daniel bm_fable bm_george",
)
PIPER = _many("piper", "male", "en_US-joe-medium")
FLITE = _many("flite", "female", "slt") + _many("flite", "male", "rms awb kal16")
FESTIVAL = _many("festival", "female", "cmu_us_slt_arctic_hts")
PICO = _many("pico", "female", "en-US en-GB")
RHVOICE = _many("rhvoice", "female", "clb slt") + _many("rhvoice", "male", "alan bdl")
ESPEAK = _many(
    "espeak",
    "female",
    "en-us+f1 en-us+f2 en-us+f3 en-us+f4 en-us+Annie en-us+linda en-us+steph en-gb+f2 en-gb+f3 en-gb-x-rp+f4 "
    "en-us+anika en-us+belinda en-us+aunty en-gb-scotland+f3 en-029+f2 en-us-nyc+f3",
) + _many(
    "espeak",
    "male",
    "en-us en-us+m1 en-us+m2 en-us+m3 en-us+m4 en-us+m6 en-us+m8 en-gb en-gb+m3 en-gb-x-rp+m1 en-gb-scotland "
    "en-gb-x-gbcwmd+m2 en-gb-x-gbclan+m3 en-us-nyc en-029+m4 en-us+max en-us+Michael en-us+john en-us+Alex en-us+Lee "
    "en-us+rob en-us+Gene en-us+Andy en-us+edward en-us+victor en-us+travis en-us+Hugo en-us+marcelo",
)
HELD_OUT = (
    _many("kokoro", "female", "af_nova bf_isabella")
    + _many("kokoro", "male", "am_liam bm_lewis")
    + _many("festival", "male", "ked_diphone")
    + _many("espeak", "female", "en-us+f5 en-gb+Andrea")
    + _many("espeak", "male", "en-us+m5 en-gb+m7")
)
TRAINING: dict[Program, tuple[Voice, ...]] = {
    "kokoro": KOKORO,
    "piper": PIPER,
    "flite": FLITE,
    "festival": FESTIVAL,
    "espeak": ESPEAK,
    "pico": PICO,
    "rhvoice": RHVOICE,
}
# The same woman, whatever program speaks with her voice.
SLT = ("flite/slt", "rhvoice/slt", "festival/cmu_us_slt_arctic_hts")


def people(voice: str) -> frozenset[str]:
    """Whose voices are heard in "program/voice": two of them for a blend; a person of several programs is one."""
    if voice in SLT:
        return frozenset({"slt"})
    program, _, name = voice.partition("/")
    return frozenset(name.split("+")) if program == "kokoro" else frozenset({voice})


# Speed factors; normal leaves a margin to both sides so that the three words mean something.
RATES: dict[Pace, tuple[float, float]] = {"slow": (0.68, 0.80), "normal": (0.93, 1.10), "fast": (1.28, 1.5)}


def draw_rate(rng: random.Random) -> tuple[Pace, float]:
    """A pace (half of them normal) and a speed factor within it."""
    pace: Pace = rng.choice(("slow", "normal", "normal", "fast"))
    return pace, round(rng.uniform(*RATES[pace]), 3)


def draw_voice(program: Program, rng: random.Random) -> Voice:
    """A training voice of a program; half of Kokoro's are blends of two speakers of the same sex and accent."""
    first = rng.choice(TRAINING[program])
    if program == "kokoro" and rng.random() < 0.5:
        peers = [v for v in KOKORO if v.sex == first.sex and v.name[0] == first.name[0] and v != first]
        return Voice("kokoro", f"{first.name}+{rng.choice(peers).name}", first.sex)
    return first
