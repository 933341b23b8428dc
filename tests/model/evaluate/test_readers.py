"""Every public set's format, on generated items; what is broken is refused with its place."""

import json
import sys
from pathlib import Path

import pytest

from model.evaluate import aligner, choices, corpora, extra, voicebench
from model.evaluate.asr import read_manifest, read_reference, write_manifest
from tests.model.evaluate import made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.sets(tmp_path_factory.mktemp("sets"))


def test_speech_corpora(folder: Path) -> None:
    read = list(corpora.librispeech(folder / "LibriSpeech" / "test-clean"))
    assert [one.text for one in read] == ["HE BEGAN A CONFUSED COMPLAINT", "NOW THEN"]
    assert read[0].rule == "en"
    assert len(read_reference(read[0])) == 12_800
    (one,) = corpora.fleurs(folder / "fleurs" / "en_us" / "test.tsv")
    assert one.text == "“Now,” she said."
    assert one.audio.name == "1003.wav"
    (one,) = corpora.aishell2(folder / "AISHELL-2" / "iOS" / "test")
    assert (one.text, one.rule) == ("厨房用具", "zh")


def test_a_segment_is_its_part_of_a_long_recording(folder: Path) -> None:
    listing = folder / "WenetSpeech" / "WenetSpeech.json"
    (one,) = corpora.wenetspeech(listing, "TEST_MEETING")
    assert (one.text, one.rule, one.start_s, one.end_s) == ("你好 API", "zh", 1.0, 2.0)
    audio = read_reference(one)
    assert len(audio) == 16_000
    assert abs(audio).max() > 1000  # the second before it is silent


def test_a_manifest_of_a_corpus_reads_back_equal(folder: Path, tmp_path: Path) -> None:
    references = [
        *corpora.wenetspeech(folder / "WenetSpeech" / "WenetSpeech.json", "TEST_NET"),
        *corpora.librispeech(folder / "LibriSpeech" / "test-other"),
    ]
    assert write_manifest(tmp_path / "m.jsonl", references) == 3
    assert read_manifest(tmp_path / "m.jsonl") == references


def test_what_a_corpus_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("1\tgone.wav\tone\tone\n")
    with pytest.raises(ValueError, match=r"test\.tsv:1: .*gone\.wav is not there"):
        list(corpora.fleurs(tmp_path / "test.tsv"))
    (tmp_path / "wav.scp").write_text("A a.wav\n")
    (tmp_path / "trans.txt").write_text("B 好\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no audio for B"):
        list(corpora.aishell2(tmp_path))


def test_sphinx_recordings(tmp_path: Path) -> None:
    made.encode(tmp_path / "librivox" / "a-1.wav", made.said())
    (tmp_path / "librivox" / "transcription").write_text("<s> he was young </s> (a-1)\n")
    made.encode(tmp_path / "cards" / "001.wav", made.said())
    (tmp_path / "cards" / "cards.transcription").write_text("<s> ten of clubs  </s> (001)\n")
    assert [(one.text, one.group) for one in corpora.sphinx(tmp_path)] == [
        ("he was young", "librivox"),
        ("ten of clubs", "cards"),
    ]


def test_multiple_choice_sets(folder: Path, tmp_path: Path) -> None:
    items = choices.read(folder / "MMAU" / "mmau-test-mini.json")
    assert [item.answer for item in items] == ["A woman", None]
    assert (items[0].task, len(items[0].choices)) == ("sound", 4)
    (item,) = choices.read(folder / "MMAR" / "MMAR-meta.json")
    assert (item.choices, item.answer, item.task) == (("yes", "no"), "no", "mix-sound-speech")
    assert item.audio.is_file()
    choices.write_predictions(tmp_path / "p.json", [item], ["no"])
    written = json.loads((tmp_path / "p.json").read_text())
    assert written == [item.raw | {"model_prediction": "no"}]
    (tmp_path / "bad.json").write_text('[{"question": "?"}]')
    with pytest.raises(ValueError, match="item 1"):
        choices.read(tmp_path / "bad.json")


def test_spoken_sets(folder: Path, tmp_path: Path) -> None:
    (one,) = voicebench.read(folder / "voicebench" / "mmsu")
    assert (one.fields["reference"], len(one.audio)) == ("A", 8000)
    assert [len(row.fields["kwargs"]) for row in voicebench.read(folder / "voicebench" / "ifeval")] == [2, 1]
    with pytest.raises(ValueError, match="no row"):
        list(voicebench.read(tmp_path))


def test_a_missing_package_names_its_extra_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    (tmp_path / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="takes pyarrow, of the extra `evaluate`") as parquet:
        list(voicebench.read(tmp_path))
    assert str(tmp_path / "test.parquet") in str(parquet.value)
    with pytest.raises(ValueError, match="takes pocketsphinx, of the extra `evaluate`") as sphinx:
        list(aligner.align([]))
    for caught in (parquet, sphinx):
        assert "\n" not in str(caught.value)
        assert (Path(__file__).parents[3] / str(caught.value).split()[-1]).is_file()  # the lock file
    assert extra.module("json", "nothing") is json
