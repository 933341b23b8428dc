import json
import wave
from pathlib import Path

import numpy as np
import pytest

from model.config import Question
from model.evaluate import asr, scenes
from model.evaluate.scenes import Scene
from model.train.windows import SCENE_CLASSES, caption_class, sound_caption


def write_wav(path: Path, samples: int) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(np.ones(samples, "<i2").tobytes())


def test_word_errors_use_the_usual_normalisation() -> None:
    score = asr.score([("Press one, please.", "press 1 please"), ("It's fine", "it is"), ("(noise)", "x")])
    assert score.utterances == 2
    assert score.words == 6
    assert score.wer == pytest.approx(1 / 6)
    assert score.recall == pytest.approx(5 / 6)


def test_an_empty_transcript_loses_every_word(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 16_000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "a.wav", "text": "hello there", "group": "g"}) + "\n")
    report = asr.evaluate(asr.read_manifest(manifest), lambda audio: "")
    assert report.all.wer == 1.0
    assert report.groups["g"].recall == 0.0
    assert report.audio_s == pytest.approx(1.0)


def test_a_bad_manifest_names_the_line(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "a.wav", "text": "x"}\n{"audio": 3}\n')
    with pytest.raises(ValueError, match=r"m\.jsonl:2"):
        asr.read_manifest(manifest)


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    audio = np.full(100_000, 1000, np.int16)
    audio[36_000:38_000] = 0
    pieces = asr.split(audio, 50_000)
    assert len(pieces[0]) == pytest.approx(37_000, abs=1600)
    np.testing.assert_array_equal(np.concatenate(pieces), audio)
    assert all(len(piece) <= 50_000 for piece in pieces)


def test_captions_name_their_class() -> None:
    for kind in ("music", "tones", "noise", "silence"):
        assert caption_class(sound_caption(kind, "beeps")) == kind
    assert caption_class("A man speaks on a telephone line.") == "speech"
    assert caption_class("") is None


class TruthfulEngine:
    """Answers scenes by their marked first sample, as a perfect engine would."""

    def run(self, requests):  # type: ignore[no-untyped-def]
        from model.answers import ChoiceAnswer, Response, TextAnswer

        answers = []
        for request in requests:
            kind = SCENE_CLASSES[int(request.audio[0])]
            text = "A man speaks slowly." if kind == "speech" else sound_caption(kind, "beeps")
            choice = ChoiceAnswer("question:sound", "sound", "sound", kind, {kind: 1.0})
            caption = TextAnswer("caption", text, "en", None, None, None)
            answers.append(Response(request.request_id, (choice, caption), None))
        return answers


def test_shuffled_scenes_fall_to_chance() -> None:
    made = [Scene(np.full(10, i % 5, np.int16), SCENE_CLASSES[i % 5]) for i in range(100)]
    report = scenes.evaluate(TruthfulEngine(), made)  # type: ignore[arg-type]
    assert report.question == report.caption == 1.0
    assert report.question_shuffled < 0.4
    assert report.confused == {}


def test_questions_have_no_name_twice() -> None:
    from model.train.windows import QUESTIONS

    assert all(isinstance(question, Question) for question in QUESTIONS)
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
