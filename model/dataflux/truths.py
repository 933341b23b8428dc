"""From the truth of a composed scene to facts that can be asked for.

In: a `Truth` of one channel. Out: facts (aspect → value of `model.dataflux.aspects`). Knows no audio and no caption.
Invariant: a fact is given only where it holds for the whole scene: one speaker's pace, not one of two.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.train.truth import Heard, Segment, Truth

MOSTLY = 0.6  # of the time that anything is heard, for somebody to be in the foreground


def facts(truth: Truth) -> dict[str, str]:
    """What holds for all of a scene in which somebody speaks. Raises ValueError for several channels."""
    if len(truth.channels) != 1:
        raise ValueError(f"{len(truth.channels)} channels; facts are of one")
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
