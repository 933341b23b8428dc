"""Composed scenes: what their truth says is what their audio holds."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from model.train.audio import RATE_HZ, Wave
from model.train.sounds import EVENT_SOURCE, Recordings
from model.train.synthesis import Scene, Speaker, Utterance, compose
from model.train.truth import Heard, Segment


def tone(hz: float, seconds: float) -> Wave:
    return (0.1 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def said(hz: float, seconds: float, text: str, sex: str) -> Utterance:
    return Utterance(tone(hz, seconds), text, sex, "fast", "call", f"test/{sex}", "flite", "templates")


# Each speaks at a frequency of her and his own, so that the audio itself tells who is heard when.
ANNA = Speaker("anna", tuple(said(500, 1.5, f"anna {n}", "female") for n in range(3)))
BERT = Speaker("bert", tuple(said(1400, 1.0, f"bert {n}", "male") for n in range(3)))
RECORDINGS = Recordings((), (tone(2500, 5.0), tone(3000, 0.5)), ("dog_bark", "kettle"))


def made(seed: int) -> Scene:
    return compose([ANNA, BERT], RECORDINGS, np.random.default_rng(seed))


scene = cache(made)


def power_at(wave: Wave, hz: float) -> float:
    """Mean power of a sine of that frequency, in dBFS of its RMS."""
    angle = 2 * np.pi * hz * np.arange(len(wave)) / RATE_HZ
    amplitude = 2 * np.hypot(np.mean(wave * np.cos(angle)), np.mean(wave * np.sin(angle)))
    return 20 * float(np.log10(max(amplitude, 1e-9) / 2**0.5))


def test_a_scene_is_a_pure_function_of_its_seed() -> None:
    one, two, other = scene(7), made(7), scene(8)
    np.testing.assert_array_equal(one.audio_CN, two.audio_CN)
    assert one.truth == two.truth != other.truth
    assert json.loads(json.dumps(one.truth.as_dict()))["text"] == one.truth.text


def test_who_speaks_when_where_and_how_loud_is_in_the_audio() -> None:
    seen_overlap = seen_two = seen_event = seen_sound = 0
    for seed in range(12):
        truth, audio_CN = scene(seed).truth, scene(seed).audio_CN
        assert audio_CN.shape == (len(truth.channels), truth.samples)
        assert np.abs(audio_CN).max() <= 1
        for speaker in (ANNA, BERT):
            mine = [s for s in truth.segments if s.speaker == speaker.name]
            assert [s.text for s in mine] == [u.text for u in speaker.utterances][: len(mine)]
            assert all(a.end_sample < b.start_sample for a, b in pairwise(mine))
        for segment in truth.segments:
            hz = 500.0 if segment.speaker == "anna" else 1400.0
            piece = audio_CN[segment.channel, segment.start_sample : segment.end_sample]
            channel = truth.channels[segment.channel]
            if channel.clipped == channel.lost_packets == 0:
                assert power_at(piece, hz) == pytest.approx(segment.level_dbfs, abs=2.0)
            if len(truth.channels) == 2:
                other = audio_CN[1 - segment.channel, segment.start_sample : segment.end_sample]
                assert power_at(other, hz) < segment.level_dbfs - 6
        for number, channel in enumerate(truth.channels):
            heard = [part for part in truth.in_order if part.channel == number]
            spoken = [part for part in truth.segments if part.channel == number]
            if channel.snr_db is not None:
                samples = sum(part.end_sample - part.start_sample for part in spoken)
                power = sum(
                    (part.end_sample - part.start_sample) * 10 ** (part.level_dbfs / 10) for part in spoken
                )
                under_dbfs = 10 * float(np.log10(power / samples)) - channel.snr_db
                assert min(part.level_dbfs for part in heard) > under_dbfs + 3.9
        for start, end in truth.overlaps:
            assert sum(s.start_sample < end and start < s.end_sample for s in truth.segments) == 2
        seen_overlap += len(truth.overlaps)
        seen_two += len(truth.channels) == 2
        seen_event += sum(sound.kind == "event" for sound in truth.sounds)
        seen_sound += sum(sound.kind != "event" for sound in truth.sounds)
        starts = [part.start_sample for part in truth.in_order]
        assert starts == sorted(starts)
        assert "flite" in truth.sources
        # No event but those that are named: none hides in the noise.
        for part in truth.sounds:
            assert (part.kind == "event") == (part.source == EVENT_SOURCE)
        assert EVENT_SOURCE not in {channel.background_source for channel in truth.channels}
    assert min(seen_overlap, seen_two, seen_event, seen_sound) > 2


def test_a_level_in_words_leaves_a_margin() -> None:
    segment = scene(1).truth.segments[0]
    words = [replace(segment, level_dbfs=level).loudness for level in (-38.0, -32.0, -27.0, -22.0, -15.0)]
    assert words == ["quiet", None, "normal", None, "loud"]


def test_a_scene_keeps_to_its_length_and_needs_speech() -> None:
    short = compose([ANNA, BERT], RECORDINGS, np.random.default_rng(3), 1, longest_s=5.0)
    assert short.truth.samples <= 5 * RATE_HZ
    assert all(part.end_sample <= short.truth.samples for part in short.truth.in_order)
    kinds = {type(part) for seed in range(9) for part in scene(seed).truth.in_order}
    assert kinds == {Segment, Heard}
    with pytest.raises(ValueError, match="longer"):
        compose([ANNA], RECORDINGS, np.random.default_rng(0), 1, longest_s=1.0)
    with pytest.raises(ValueError, match="speaks"):
        compose([], RECORDINGS, np.random.default_rng(0))
