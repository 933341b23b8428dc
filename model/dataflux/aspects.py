"""What a made scene can be asked: for each aspect that is known exactly a question, and an option for every value.

In: an aspect and its value. Out: an item whose right option is that value. Knows no audio and no model. Invariant:
every wrong option is a value that the scene is known not to have.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.dataflux.values import OPTIONS, Item


@dataclass(frozen=True)
class Aspect:
    """`asked`: ways to ask for it. `options`: what each value is called; at least four."""

    category: str
    asked: tuple[str, ...]
    options: Mapping[str, str]


NOBODY = "nobody"
ASPECTS: Mapping[str, Aspect] = {
    "sound": Aspect(
        "Sound > Source > kind of sound",
        ("What is heard most of all?", "Which of these is in the foreground of the recording?"),
        {
            "speech": "Somebody talking",
            "music": "Music playing",
            "tones": "Signal tones, as of a telephone",
            "noise": "Noise without words or melody",
            "silence": "Hardly any sound at all",
        },
    ),
    "voice": Aspect(
        "Speech > Speaker > voice",
        ("Whose voice is it?", "Who can be heard in the recording?"),
        {
            "female": "That of a woman",
            "male": "That of a man",
            NOBODY: "No voice can be heard",
            "choir": "That of a choir singing together",
        },
    ),
    "pace": Aspect(
        "Speech > Delivery > pace",
        ("At what pace do the words come?", "How would you describe the tempo of the talking?"),
        {
            "slow": "Slowly, with drawn-out words",
            "normal": "At an ordinary pace",
            "fast": "Quickly, hardly pausing",
            NOBODY: "There are no words",
        },
    ),
    "line": Aspect(
        "Recording > Line > bandwidth",
        ("How does the line sound?", "Which way of transmission does the recording sound like?"),
        {
            "telephone": "Narrow and dull, as over a telephone",
            "wideband": "Full and clear, with all of the treble",
            "underwater": "Muffled so much that only a rumble is left",
            "cutting": "Cutting out several times in every second",
        },
    ),
    "background": Aspect(
        "Recording > Background > background sound",
        ("What is there behind the voice?", "Which sound accompanies the voice?"),
        {
            "clean": "Next to nothing",
            "noise": "A steady noise",
            "music": "Music",
            "crowd": "A cheering crowd",
        },
    ),
    "signal": Aspect(
        "Sound > Source > signal tones",
        ("Which signal is given?", "Which kind of tones is it?"),
        {
            "a dial tone": "One steady dial tone",
            "a ringing tone": "The ringing of a line that is being called",
            "a busy tone": "The slow beat of an engaged line",
            "a fast busy tone": "A beat twice as fast as that of an engaged line",
            "a fax tone": "The calling tone of a fax machine",
            "a modem tone": "The answering tone of a modem",
            "keypad tones": "Keys of a telephone being pressed",
            "beeps": "Beeps of one pitch",
            "a sequence of tones": "A run of three tones up or down",
        },
    ),
}


def item(aspect: str, value: str, rng: random.Random) -> Item:
    """A question for one aspect of a scene. KeyError for a value without an option."""
    known = ASPECTS[aspect]
    others = [other for other in known.options if other != value]
    values = (value, *rng.sample(others, OPTIONS - 1))
    return Item(
        text=rng.choice(known.asked),
        options=tuple(known.options[one] for one in values),
        key=0,
        category=known.category,
        aspect=aspect,
        values=values,
    )


def askable(facts: Mapping[str, str]) -> Sequence[str]:
    """The aspects of these facts that there is a question for."""
    return [name for name, one in ASPECTS.items() if facts.get(name) in one.options]
