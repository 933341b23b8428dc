"""From the truth of a composed scene to facts that can be asked for, and to a dense caption that says all of it.

In: a `Truth` of one channel. Out: facts (aspect → value of `model.dataflux.aspects`), a caption. Knows no audio.
Invariant: a fact is given only where it holds for the whole scene (one speaker's pace, not one of two); the caption
says nothing that the truth does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from model.dataflux.values import Caption
from model.train.truth import Channel, Heard, Segment, Truth

MOSTLY = 0.6  # of the time that anything is heard, for somebody to be in the foreground
AUDIBLE_DB = 2.0
NUMBERS = {1: "One person", 2: "Two people", 3: "Three people"}
WHO = {"female": "a woman", "male": "a man", None: "a person"}
PACE = {"slow": " slowly", "normal": " at a normal pace", "fast": " quickly", None: ""}
LOUD = {"quiet": " and quietly", "normal": "", "loud": " and loudly", None: ""}


def caption(truth: Truth) -> Caption:
    """The caption and the facts of a scene on one channel. Raises ValueError for several."""
    if len(truth.channels) != 1:
        raise ValueError(f"{len(truth.channels)} channels; a caption is of one")
    return Caption(_told(truth), facts(truth))


def facts(truth: Truth) -> dict[str, str]:
    """What holds for all of a scene in which somebody speaks."""
    (channel,) = truth.channels
    spoken, others = truth.segments, [sound for sound in truth.sounds if sound.kind != "event"]
    speech = sum(one.end_sample - one.start_sample for one in spoken)
    beside = sum(one.end_sample - one.start_sample for one in others)
    found: dict[str, str | None] = {
        "sound": "speech" if speech >= MOSTLY * (speech + beside) else None,
        "speakers": str(len(truth.speakers)),
        "line": channel.line if not channel.lost_packets else None,
        "background": channel.background,
        "order": _order(spoken, others),
        "signal": _only([one.detail.replace("british ", "") for one in others if one.kind == "tones"]),
        "event": _only([one.detail for one in truth.sounds if one.kind == "event"]),
        "first": _first(truth),
    }
    if len(truth.speakers) == 1:
        found |= {
            "voice": _only([one.gender for one in spoken]),
            "pace": _only([one.pace for one in spoken]),
            "loudness": _only([one.loudness for one in spoken]),
        }
    return {name: value for name, value in found.items() if value is not None}


def audible(truth: Truth) -> bool:
    """Whether all that is said stands out from what lies under it by AUDIBLE_DB: a caption tells of all of it."""
    for number, channel in enumerate(truth.channels):
        spoken = [one for one in truth.segments if one.channel == number]
        if channel.snr_db is None or not spoken:
            continue
        samples = sum(one.end_sample - one.start_sample for one in spoken)
        power = sum((one.end_sample - one.start_sample) * 10 ** (one.level_dbfs / 10) for one in spoken)
        under_dbfs = 10 * math.log10(power / samples) - channel.snr_db
        if min(one.level_dbfs for one in spoken) < under_dbfs + AUDIBLE_DB:
            return False
    return True


def _only(values: Sequence[str | None]) -> str | None:
    """The one value of all of them; None where they differ, or where there is none."""
    return values[0] if values and len(set(values)) == 1 else None


def _order(spoken: Sequence[Segment], others: Sequence[Heard]) -> str | None:
    """Whether other sounds come before or after all that is said; None where one comes between."""
    first = min(one.start_sample for one in spoken)
    last = max(one.end_sample for one in spoken)
    before = any(one.end_sample <= first for one in others)
    after = any(one.start_sample >= last for one in others)
    if any(first < one.end_sample and one.start_sample < last for one in others):
        return None
    return {(False, False): "speech", (True, False): "sound, speech", (False, True): "speech, sound"}.get(
        (before, after), "sound, speech, sound"
    )


def _first(truth: Truth) -> str | None:
    """Who speaks first, where one of two is a woman and the other a man."""
    genders = {one.speaker: one.gender for one in truth.segments}
    if sorted(genders.values(), key=str) != ["female", "male"]:
        return None
    return genders[truth.speakers[0]]


def _told(truth: Truth) -> str:
    """Part by part in the order of time; what one speaker says in a row is one part."""
    (channel,) = truth.channels
    parts: list[str] = []
    known: dict[str, str] = {}
    speaking = ""
    for one in truth.in_order:
        if isinstance(one, Segment):
            if one.speaker != speaking:
                parts.append(_speaks(one, known))
            speaking = one.speaker
        else:
            parts.append(_heard(one))
            speaking = "" if one.kind != "event" else speaking
    told = " Then ".join(f"{part}." for part in parts)
    count = len(truth.speakers)
    who = f" {NUMBERS.get(count, str(count) + ' people')} {'speaks' if count == 1 else 'speak'} in all."
    return f"{told[0].upper()}{told[1:]}{who}{_line(channel)}"


def _speaks(one: Segment, known: dict[str, str]) -> str:
    """A speaker is introduced once, and is the same one afterwards."""
    if one.speaker in known:
        return f"{known[one.speaker]} speaks again"
    who = WHO[one.gender]
    another = who in known.values() or f"the {who.split()[1]}" in known.values()
    known[one.speaker] = f"the {'other ' if another else ''}{who.split()[1]}"
    if another:
        who = f"another {who.split()[1]}"
    return f"{who} speaks{PACE[one.pace]}{LOUD[one.loudness]}"


def _heard(one: Heard) -> str:
    return {
        "music": "music plays",
        "noise": "noise is heard",
        "silence": "nothing is heard",
        "tones": f"signal tones are heard: {one.detail.replace('british ', '')}",
    }.get(one.kind, f"{one.detail} is heard")


def _line(channel: Channel) -> str:
    line = "a telephone line" if channel.line == "telephone" else "a wideband line"
    under = "" if channel.background == "clean" else f" with {channel.background} in the background"
    flaws = " It is clipped in places." if channel.clipped else ""
    flaws += " Short pieces of it are missing." if channel.lost_packets else ""
    return f" The recording is of {line}{under}.{flaws}"
