"""What a made scene can be asked: for each aspect that is known exactly a question, and an option for every value.

In: an aspect and its value. Out: an item whose right option is that value. Knows no audio and no model. Invariant:
every wrong option is a value that the scene is known not to have.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from model.dataflux.values import OPTIONS, Item
from model.train.synthesis import EVENTS


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
        ("Whose voice is it?", "Which voice can be heard?"),
        {
            "female": "A woman's",
            "male": "A man's",
            NOBODY: "Nobody's",
            "choir": "That of a choir",
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
    "loudness": Aspect(
        "Speech > Delivery > loudness",
        ("How loud is the voice?", "At what level does the voice come?"),
        {
            "quiet": "So quiet that one has to strain",
            "normal": "At an ordinary level",
            "loud": "Very loud, close to the limit",
            "fading": "Loud at the beginning and gone at the end",
        },
    ),
    "speakers": Aspect(
        "Speech > Speaker > number of speakers",
        ("How many people talk?", "How many different voices can be told apart?"),
        {"1": "A single one", "2": "Two", "3": "Three", "4": "Four or more"},
    ),
    "first": Aspect(
        "Speech > Speaker > turns",
        ("Who begins the conversation?", "Whose words come at the beginning?"),
        {"female": "A woman", "male": "A man", "child": "A child", "together": "Several people in chorus"},
    ),
    "order": Aspect(
        "Sound > Time > order of events",
        ("In which order do talking and other sounds come?", "How is the recording made up?"),
        {
            "speech": "Nobody but people talking, from the beginning to the end",
            "sound, speech": "Music, tones or noise at the start, talking after that",
            "speech, sound": "Talking at the start, music, tones or noise after that",
            "sound, speech, sound": "Music, tones or noise both ahead of the talking and following it",
        },
    ),
    "event": Aspect(
        "Sound > Source > environment",
        ("Which sound of the surroundings can be heard?", "What is heard besides the talking?"),
        {name: name[0].upper() + name[1:] for name in EVENTS.values()},
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
