"""Training windows: speech and sounds put together, with the truth about them.

In: utterances (waveform, words, what is known of the speaker) and sounds. Out: a `Window`: the waveform and its
answers. Knows no model. Invariant: whatever a window's caption and answers say was put there by this file or is known
from its source; what is not known is not asked.
"""

from dataclasses import dataclass, field

import numpy as np

from model.config import Question
from model.train import sounds
from model.train.audio import RATE_HZ, Wave, at_level, change_speed, rms
from model.train.lines import background_under, draw_background, draw_line, through
from model.train.sounds import Recordings, SoundClass
from model.train.synthesis import Utterance as Utterance  # what windows are made of
from model.train.truth import Background, Line

QUESTIONS = (
    Question("voice", "speech", "Is the voice female or male?", ("female", "male"), "voice"),
    Question("pace", "speech", "How fast is the speech?", ("slow", "normal", "fast"), "pace"),
    Question("line", "speech", "Is this a telephone or a wideband line?", ("telephone", "wideband"), "line"),
    Question("background", "speech", "What is in the background?", ("clean", "noise", "music"), "background"),
    Question("sound", "scene", "What is heard?", ("speech", "music", "tones", "noise", "silence"), "sound"),
)
SCENE_CLASSES = QUESTIONS[-1].choices


@dataclass(frozen=True)
class Window:
    """`text` is None when the words are not known; "" says that nobody speaks."""

    wave: Wave
    text: str | None
    caption: str | None
    answers: dict[str, str] = field(default_factory=dict)


def speech_window(utterances: list[Utterance], recordings: Recordings, rng: np.random.Generator) -> Window:
    """One or more utterances of one voice with pauses, background, line and level.

    A quarter is played so much faster or slower that a new speaker seems to talk (pitch and formants move along):
    few voices become many, and nothing is said of voice and pace there.
    """
    factor, other_speaker = _draw_factor(rng)
    pieces = [_gap(rng)]
    for utterance in utterances:
        pieces += [at_level(change_speed(utterance.wave, factor), -22), _gap(rng)]
    wave = np.concatenate(pieces)
    background = draw_background(rng)
    wave = wave + background_under(background, len(wave), rms(wave), recordings, rng).wave
    line = draw_line(rng)
    wave = through(line, at_level(wave, float(rng.uniform(-36, -16))), rng).wave
    first = utterances[0]
    answers = {"line": line, "background": background, "sound": "speech"}
    sex = None if other_speaker else first.sex
    if sex is not None:
        answers["voice"] = sex
    same_pace = not other_speaker and all(u.pace == first.pace for u in utterances)
    pace = first.pace if same_pace else None
    if pace is not None:
        answers["pace"] = pace
    return Window(
        wave,
        " ".join(u.text for u in utterances if u.text),
        speech_caption(sex, pace, line, background),
        answers,
    )


def sound_window(kind: SoundClass, samples: int, recordings: Recordings, rng: np.random.Generator) -> Window:
    """A sound of one class and nobody speaking."""
    sound = sounds.draw(kind, samples, recordings, rng)
    line = draw_line(rng)
    untouched = kind == "silence" and rng.random() < 0.5
    wave = sound.wave if untouched else through(line, sound.wave, rng).wave
    return Window(wave, "", sound_caption(kind, sound.detail), {"sound": kind})


def mixed_window(
    utterance: Utterance, kind: SoundClass, recordings: Recordings, rng: np.random.Generator
) -> Window:
    """A sound and then speech, or the other way round."""
    sound = sounds.draw(kind, int(rng.uniform(1.5, 5) * RATE_HZ), recordings, rng)
    speech = speech_window([utterance], recordings, rng)
    speech_first = bool(rng.random() < 0.4)
    parts = [speech.wave, sound.wave] if speech_first else [sound.wave, speech.wave]
    said, heard = speech.caption or "", sound_caption(kind, sound.detail)
    heard = heard.removesuffix(" Nobody speaks.")
    caption = f"{said} Then: {heard}" if speech_first else f"{heard} Then: {said}"
    return Window(
        np.concatenate(parts), speech.text, caption if kind != "silence" else said, {"sound": "speech"}
    )


def speech_caption(sex: str | None, pace: str | None, line: Line, background: Background) -> str:
    """ "A woman speaks quickly on a telephone line with music in the background." """
    who = {"female": "A woman", "male": "A man", None: "A person"}[sex]
    how = {"slow": " slowly", "normal": " at a normal pace", "fast": " quickly", None: ""}[pace]
    where = " on a telephone line" if line == "telephone" else " on a wideband line"
    what = "" if background == "clean" else f" with {background} in the background"
    return f"{who} speaks{how}{where}{what}."


def sound_caption(kind: SoundClass, detail: str) -> str:
    """What a window without speech is described as."""
    if kind == "silence":
        return "Silence. Nobody speaks."
    if kind == "music":
        return "Music plays. Nobody speaks."
    if kind == "noise":
        return "Noise is heard. Nobody speaks."
    return f"Signal tones are heard: {detail}. Nobody speaks."


def caption_class(caption: str) -> str | None:
    """The scene class a caption names, None when it names none."""
    for word, kind in (
        ("speaks ", "speech"),
        ("Music", "music"),
        ("tones", "tones"),
        ("Noise", "noise"),
        ("Silence", "silence"),
    ):
        if word in caption:
            return kind
    return None


def _draw_factor(rng: np.random.Generator) -> tuple[float, bool]:
    """How much faster a window is played, and whether that makes another speaker of it."""
    draw = rng.random()
    if draw < 0.25:
        return float(rng.uniform(1.08, 1.2) if rng.random() < 0.5 else rng.uniform(0.83, 0.92)), True
    return (float(rng.uniform(0.94, 1.07)) if draw < 0.65 else 1.0), False


def _gap(rng: np.random.Generator) -> Wave:
    return np.zeros(int(rng.uniform(0.08, 0.6) * RATE_HZ), np.float32)
