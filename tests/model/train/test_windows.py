import numpy as np
import pytest

from model.train import sounds, windows
from model.train.audio import RATE_HZ, at_level, change_speed, rms, telephone, to_int16, trim
from model.train.sounds import Recordings
from model.train.windows import SCENE_CLASSES, Utterance, caption_class

NOTHING = Recordings((), ())


def voice(text: str = "hello there", pace: str | None = "fast") -> Utterance:
    wave = np.sin(np.arange(RATE_HZ) * 0.2).astype(np.float32) * 0.3
    return Utterance(wave, text, "female", pace, "test")


@pytest.mark.parametrize("kind", [kind for kind in SCENE_CLASSES if kind != "speech"])
def test_sound_windows_say_what_they_are(kind: sounds.SoundClass) -> None:
    for seed in range(4):
        window = windows.sound_window(kind, 40_001, NOTHING, np.random.default_rng(seed))
        assert len(window.wave) == 40_001
        assert np.isfinite(window.wave).all()
        assert window.text == ""
        assert window.answers == {"sound": kind}
        assert caption_class(window.caption or "") == kind


def test_a_window_is_a_pure_function_of_its_seed() -> None:
    one, two = (windows.speech_window([voice()], NOTHING, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.wave, two.wave)
    assert one.caption == two.caption


def test_speech_windows_tell_the_truth() -> None:
    seen, others = set(), 0
    for seed in range(30):
        window = windows.speech_window([voice(), voice("again")], NOTHING, np.random.default_rng(seed))
        assert window.text == "hello there again"
        if "voice" in window.answers:
            assert window.answers["voice"] == "female"
            assert window.answers["pace"] == "fast"
            assert (window.caption or "").startswith("A woman speaks quickly")
        else:  # played so much faster or slower that neither is known any more
            others += 1
            assert "pace" not in window.answers
            assert (window.caption or "").startswith("A person speaks on")
        assert (window.answers["background"] == "clean") == ("background" not in (window.caption or ""))
        assert window.answers["line"] in (window.caption or "")
        assert caption_class(window.caption or "") == "speech"
        assert rms(window.wave) > 1e-3
        seen.add(window.answers["background"])
    assert seen == {"clean", "noise", "music"}
    assert 0 < others < 15


def test_pace_is_not_claimed_when_the_parts_differ() -> None:
    window = windows.speech_window([voice(), voice(pace="slow")], NOTHING, np.random.default_rng(1))
    assert "pace" not in window.answers
    assert "quickly" not in (window.caption or "")


def test_mixed_windows_name_both_in_order() -> None:
    window = windows.mixed_window(voice(), "music", NOTHING, np.random.default_rng(0))
    caption = window.caption or ""
    assert "Music plays." in caption
    assert " speaks " in caption
    assert "Nobody" not in caption
    assert window.text == "hello there"


def test_the_telephone_line_keeps_only_its_band() -> None:
    time = np.arange(RATE_HZ) / RATE_HZ
    low = telephone((0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32), 200.0)
    high = telephone((0.5 * np.sin(2 * np.pi * 5000 * time)).astype(np.float32), 200.0)
    assert len(low) == RATE_HZ
    assert rms(low) == pytest.approx(0.5 / 2**0.5, rel=0.05)
    assert rms(high) < 0.01


def test_levels_speed_and_trimming() -> None:
    wave = voice().wave
    assert rms(at_level(wave, -30)) == pytest.approx(10**-1.5, rel=1e-3)
    assert len(change_speed(wave, 2.0)) == pytest.approx(RATE_HZ / 2, abs=2)
    silent = np.zeros(8000, np.float32)
    assert len(trim(np.concatenate([silent, wave, silent]))) == pytest.approx(RATE_HZ, abs=640)
    assert to_int16(np.array([2.0, -2.0], np.float32)).tolist() == [32767, -32768]
