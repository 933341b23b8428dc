"""Manifests of clips and scenes: every line has a licence, every source a data card, every answer is true."""

import gzip
import json
import wave
from pathlib import Path

import numpy as np
import pytest

from model.evaluate.holdout import SOUNDS_FOLDER, TEXTS_FILE, is_test
from model.train import cards, sets, sources, telling
from model.train.audio import RATE_HZ, to_int16
from model.train.manifest import read
from model.train.sounds import EVENT_SOURCE, MADE, MUSIC_SOURCE, Recordings
from model.train.sources import Entry
from model.train.spoken import ONES
from model.train.synthesis import EVENTS
from model.train.truth import Channel, Heard, Segment, Truth
from model.train.voices import TRAINING, people
from workers import harvest
from workers.settings import Settings

S = RATE_HZ


def segment(start_s: float, end_s: float, who: str, gender: str | None, level_dbfs: float = -15.0) -> Segment:
    span = (int(start_s * S), int(end_s * S))
    return Segment(*span, 0, who, "hello", "v", gender, "fast", level_dbfs, "flite", "templates")


def truth(*segments: Segment, sounds: tuple[Heard, ...] = ()) -> Truth:
    line = Channel("telephone", "music", 9.0, 0.0, 2, MUSIC_SOURCE)
    return Truth(S, 9 * S, (line,), segments, sounds)


BEEP = Heard(0, S // 2, 0, "tones", "beeps", -20.0, MADE)
DOG = Heard(int(1.2 * S), 2 * S, 0, "event", "a barking dog", -30.0, EVENT_SOURCE)
TALK = truth(
    segment(1, 3, "A", "female"),
    segment(3.5, 5, "B", "male"),
    segment(5.5, 6, "A", "female"),
    segment(6.5, 7, "B", "male"),
    sounds=(BEEP, DOG),
)


def test_a_caption_tells_all_in_order() -> None:
    assert telling.caption(TALK) == (
        "Signal tones are heard: beeps. Then a woman speaks quickly and loudly. "
        "A barking dog is heard while somebody speaks. Then a man speaks quickly and loudly. Then they take turns. "
        "The line is a telephone line with music in the background and drops out at times."
    )
    both = truth(segment(0, 3, "A", None, -25), segment(2, 4, "B", "female"), segment(5, 6, "C", "female"))
    assert "Then another woman speaks quickly" in telling.caption(both)
    assert "They talk over each other." in telling.caption(both)


def test_questions_are_asked_only_where_the_answer_is_known() -> None:
    answers = {asked.prompt: asked.answer for asked in telling.questions(TALK)}
    assert answers == {
        "How fast is the speech?": "fast",
        "Is this a telephone or a wideband line?": "telephone",
        "What is in the background?": "music",
        "How many people speak?": "two",
        "Do people speak at the same time?": "no",
        "How loud is the speech?": "loud",
        "Who speaks first?": "a woman",
        "Who speaks last?": "a man",
        "What is heard before the speech?": "tones",
        "Which event is heard?": "a barking dog",
    }
    over = truth(segment(0, 3, "A", None, -25), segment(2, 4, "B", "male"))
    asked = {one.prompt: one.answer for one in telling.questions(over)}
    assert asked["Do people speak at the same time?"] == "yes"
    assert not asked.keys() & {"Is the voice female or male?", "Who speaks first?", "How loud is the speech?"}
    assert set(EVENTS.values()) < set(telling.EVENT_CHOICES)


def test_every_source_has_a_card_and_a_licence() -> None:
    made_of = {*TRAINING, MADE, MUSIC_SOURCE, EVENT_SOURCE, "templates", "wordnet", "sentences"}
    assert made_of < set(cards.names())
    for name in cards.names():
        assert cards.card(name).licence.split()
    assert cards.licence(("flite", "made", "flite")) == "Apache-2.0 AND MIT-Festival"
    assert cards.in_manifest("librispeech/dev-other, made") == ("librispeech", "made")
    with pytest.raises(cards.CardError):
        cards.in_manifest("made, ../README")
    for nobody in (("flite", "the internet"), ()):
        with pytest.raises(cards.CardError):
            cards.licence(nobody)


def test_audio_of_production_has_a_card_that_speaks_of_its_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = cards.in_manifest(harvest.SOURCE)
    card = cards.card(found)
    assert card.licence == harvest.LICENCE
    assert "EUREKA_HARVEST_CONSENT" in card.consent
    assert f"EUREKA_HARVEST_KEEP_DAYS ({Settings().harvest_keep_days:g})" in card.expiry
    assert f"{harvest.GUARD_SAMPLES // 16_000} seconds" in card.personal_data
    assert [name for name in cards.names() if cards.card(name).consent] == [harvest.SOURCE]
    whole = (cards.FOLDER / "harvest.md").read_text()
    (tmp_path / "harvested.md").write_text(
        "\n".join(line for line in whole.splitlines() if not line.startswith("- expiry")).replace(
            "# harvest", "# harvested"
        )
    )
    monkeypatch.setattr(cards, "FOLDER", tmp_path)
    with pytest.raises(cards.CardError, match="expiry"):
        cards.card("harvested")


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    found = []
    for number, (voice, sex) in enumerate([("slt", "female"), ("rms", "male")] * 2):
        path = tmp_path / f"{number}.wav"
        tone = np.sin(np.arange(S) * (0.1 + 0.1 * (number % 2))).astype(np.float32) * 0.1
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(S)
            file.writeframes(to_int16(tone).tobytes())
        text = f"sentence {ONES[number]}"
        found.append(
            Entry(path.stem, (path,), text, f"flite/{voice}", sex, "slow", "call", "flite", "templates")
        )
    return found


def test_scenes_and_clips_are_written_with_sources_and_licences(tmp_path: Path, entries: list[Entry]) -> None:
    out = tmp_path / "set"
    sets.write_scenes(out, entries, Recordings((), ()), 4, seed=3)
    lines = read(out / "scenes.jsonl")
    truths = [json.loads(line) for line in (out / "truth.jsonl").read_text().splitlines()]
    assert len(truths) == 4
    for known in truths:
        with wave.open(str(out / known["audio"])) as file:
            assert (file.getnchannels(), file.getnframes()) == (len(known["channels"]), known["samples"])
        mine = [line for line in lines if line.audio == out / known["audio"]]
        said = [line.answer for line in mine if line.task == "asr"]
        assert said == ([] if known["overlaps"] else [known["text"]])
        assert [line.task for line in mine].count("caption") == 1
        assert {line.licence for line in mine} == {cards.licence(known["sources"])}
        assert {cards.in_manifest(line.source) for line in mine} == {tuple(known["sources"])}
    first = (out / truths[0]["audio"]).read_bytes()
    sets.write_scenes(out, entries, Recordings((), ()), 1, seed=3)
    assert (out / truths[0]["audio"]).read_bytes() == first
    clips = sets.clip_samples(entries)
    assert [clip.task for clip in clips[:3]] == ["asr", "paralinguistic", "paralinguistic"]
    assert {clip.licence for clip in clips} == {"Apache-2.0 AND MIT-Festival"}
    assert {cards.in_manifest(clip.source) for clip in clips} == {("flite", "templates")}
    with pytest.raises(ValueError, match="no speech"):
        sets.write_scenes(out, [], Recordings((), ()), 1, seed=3)


def test_nobody_is_in_a_scene_twice(entries: list[Entry]) -> None:
    twin = Entry(
        "twin", entries[0].audio, "twin", "rhvoice/slt", "female", None, "call", "rhvoice", "templates"
    )
    seen = set()
    for seed in range(20):
        scene = sets.draw_scene([entries[0], twin], Recordings((), ()), np.random.default_rng(seed))
        assert len(scene.truth.speakers) == 1
        seen.add(scene.truth.segments[0].voice)
    assert seen == {"flite/slt", "rhvoice/slt"}
    assert people("kokoro/af_sky+af_bella") & people("kokoro/af_bella")
    assert not people("espeak/en-us+f1") & people("espeak/en-us+f2")


def test_entries_of_every_kind_name_sources_with_a_card(tmp_path: Path) -> None:
    (tmp_path / "3_george_1.flac").touch()
    (tmp_path / "read.json").write_text(
        json.dumps([{"file": "a.ogg", "text": "so it is said", "seconds": 1.0}])
    )
    sounds_folder = tmp_path / SOUNDS_FOLDER
    sounds_folder.mkdir(parents=True)
    prompt = next(text for n in range(99) if not is_test(text := f"you have {n} messages"))
    (sounds_folder / "prompt.g722").touch()
    (tmp_path / TEXTS_FILE).parent.mkdir(parents=True)
    (tmp_path / TEXTS_FILE).write_bytes(gzip.compress(f"prompt: {prompt}\n".encode()))
    found = sources.spoken_digits(tmp_path, 1, 1) + sources.read_speech(tmp_path / "read.json")
    found += sources.asterisk(tmp_path)
    assert len(found) == 3
    for entry in found:
        assert set(entry.sources) <= set(cards.names())
        assert cards.licence(entry.sources).startswith("CC-BY-")
