"""Decisions follow from the flags alone; detectors with the same past hear the same."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from streams.segmenter import Decision, Segmenter, SegmenterConfig, Silence, Speech, Split
from streams.vad import FRAME_SAMPLES, frames, warmed
from tests.streams.sound import noise, voice

CONFIG = SegmenterConfig(
    start_voiced=3,
    start_within=5,
    stop_voiced=2,
    hang=25,
    pre_roll=15,
    post_roll=10,
    min_speech=10,
    max_window=300,
    silence_step=250,
)


def first(flags: str, in_speech: bool = False) -> tuple[int, Decision | None]:
    """Frames read until the first decision, and the decision; `#` is a voiced frame."""
    segmenter = Segmenter(CONFIG, in_speech)
    for count, flag in enumerate(flags, 1):
        if (decision := segmenter.push(flag == "#")) is not None:
            return count, decision
    return len(flags), segmenter.close()


def test_speech_has_its_rolls_and_ends_after_the_hang() -> None:
    count, decision = first("." * 50 + "#" * 40 + "." * 100)
    assert decision == Speech(start=35, end=100, speech_end=90)
    assert 90 + 20 <= count <= 90 + 25


def test_pre_roll_never_reaches_before_the_boundary() -> None:
    assert first("." * 4 + "#" * 40 + "." * 100)[1] == Speech(start=0, end=54, speech_end=44)


def test_short_pauses_and_single_flags_change_nothing() -> None:
    assert first("#" * 20 + "." * 20 + "#" * 20 + "." * 50)[1] == Speech(0, 70, 60)
    assert first(("." * 9 + "#") * 25) == (250, Silence(235))


def test_a_blip_is_not_speech() -> None:
    assert first("." * 20 + "#" * 5 + "." * 300) == (250, Silence(235))


def test_silence_advances_short_of_the_pre_roll() -> None:
    assert first("." * 400) == (250, Silence(235))


def test_a_window_is_split_in_its_last_third() -> None:
    assert first("." * 40 + "#" * 400) == (325, Split(start=25, first=225, last=325))


def test_after_a_split_even_a_short_rest_is_kept_and_nothing_is_not() -> None:
    assert first("##" + "." * 100, in_speech=True)[1] == Speech(0, 12, 2)
    assert first("." * 300, in_speech=True) == (250, Silence(235))


def test_the_end_closes_what_is_open() -> None:
    assert first("." * 30 + "#" * 20)[1] == Speech(15, 50, 50)
    assert first("." * 30 + "#" * 4)[1] is None


def test_every_short_pattern_gives_decisions_within_what_was_read() -> None:
    for blocks in itertools.product("#.", repeat=8):
        count, decision = first("".join(b * 12 for b in blocks))
        if isinstance(decision, Speech):
            assert 0 <= decision.start < decision.speech_end <= decision.end <= count


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_detectors_hear_the_voice_and_not_the_line(mode: int) -> None:
    detect = warmed(mode, noise(1, 1))
    spoken = [detect(f) for f in frames(voice(3, 2))]
    assert sum(spoken) > 0.8 * len(spoken)
    if mode:
        quiet = [detect(f) for f in frames(noise(3, 3))]
        assert sum(quiet[25:]) == 0


def test_a_warmed_detector_has_no_other_past() -> None:
    audio = np.concatenate([voice(1, 1), noise(1, 2), voice(2, 3)])
    past, rest = audio[: 100 * FRAME_SAMPLES], frames(audio[100 * FRAME_SAMPLES :])
    one, other = warmed(2, past), warmed(2, past)
    assert [one(f) for f in rest] == [other(f) for f in rest]
    assert len(frames(audio[:1000])) == 3
