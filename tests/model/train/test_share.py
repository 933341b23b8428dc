"""Several processes share the clips: nothing twice, nothing left out."""

import json
from pathlib import Path

import pytest

from model.train import nano, share
from model.train.share import Share


def test_shares_are_disjoint_and_together_everything() -> None:
    items = list(range(11))
    shares = [share.parse(f"{i}/4") for i in range(4)]
    assert sorted(item for one in shares for item in one.take(items)) == items
    assert (Share().take(items), Share().suffix, Share().seed(5)) == (items, "", [5])
    assert len({one.suffix for one in shares} | {str(one.seed(5)) for one in shares}) == 8
    for wrong in ("4/4", "-1/4", "1", "a/b", "1/0"):
        with pytest.raises(ValueError, match="no share"):
            share.parse(wrong)


def speech(work: Path, folder: str, *names: str) -> Path:
    """Clips as `synthesise` lists them."""
    manifest = work / "speech" / folder / "manifest.jsonl"
    manifest.parent.mkdir(parents=True)
    line = {"text": "t", "program": "flite", "voice": "slt", "sex": "female", "pace": "normal"}
    line |= {"source": "call", "text_source": "templates", "seconds": 1.0}
    lines = [json.dumps(line | {"id": name, "audio": f"{name}.wav"}) + "\n" for name in names]
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def folders_in(work: Path) -> nano.Folders:
    return nano.Folders(work, (), work / "none", work / "none")


def test_a_share_encodes_what_it_spoke_and_its_part_of_the_rest(tmp_path: Path) -> None:
    speech(tmp_path, "flite.0of2", "a", "b")
    speech(tmp_path, "flite.1of2", "c")
    speech(tmp_path, "piper", "p", "q", "r")
    folders = folders_in(tmp_path)

    def names(program: str, one: Share) -> list[str]:
        return [entry.identity for entry in nano.spoken(folders, program, one)]

    assert names("flite", Share(1, 3)) == ["b"]
    assert (names("flite", Share(0, 2)), names("flite", Share(1, 2))) == (["a", "b"], ["c"])
    assert names("flite", Share()) == ["a", "b", "c"]
    assert (names("piper", Share(0, 2)), names("piper", Share(1, 2))) == (["p", "r"], ["q"])


def test_a_clip_that_is_spoken_twice_counts_once(tmp_path: Path) -> None:
    """In shares, and again in other shares and in one piece."""
    for folder in ("flite.0of2", "flite.0of3", "flite", "test-flite.0of2", "test-flite"):
        speech(tmp_path, folder, "a", "b")
    speech(tmp_path, "flite.1of3", "c")
    folders = folders_in(tmp_path)
    assert [entry.identity for entry in nano.spoken(folders, "flite", Share())] == ["a", "b", "c"]
    (path,) = nano.write_test_set(folders)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_a_share_that_has_not_spoken_takes_nothing_of_its_neighbours(tmp_path: Path) -> None:
    speech(tmp_path, "flite.0of2", "a", "b")
    folders = folders_in(tmp_path)
    assert [len(nano.spoken(folders, "flite", Share(i, 2))) for i in (0, 1)] == [2, 0]


def test_a_line_that_another_process_is_writing_is_left_for_later(tmp_path: Path) -> None:
    for folder in ("flite.0of2", "test-flite"):
        with speech(tmp_path, folder, "a").open("a", encoding="utf-8") as manifest:
            manifest.write('{"id": "b", "te')
    folders = folders_in(tmp_path)
    assert [entry.identity for entry in nano.spoken(folders, "flite", Share())] == ["a"]
    (path,) = nano.write_test_set(folders)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1
