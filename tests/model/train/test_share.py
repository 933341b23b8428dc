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
        with pytest.raises(ValueError, match=r"is no share; 0/4"):
            share.parse(wrong)


def test_a_share_encodes_what_it_spoke_and_its_part_of_the_rest(tmp_path: Path) -> None:
    def speech(folder: str, *names: str) -> None:
        (tmp_path / "speech" / folder).mkdir(parents=True)
        line = {"text": "t", "program": "flite", "voice": "slt", "sex": "female", "pace": "normal"}
        line |= {"source": "call", "text_source": "templates", "seconds": 1.0}
        lines = [json.dumps(line | {"id": name, "audio": f"{name}.wav"}) + "\n" for name in names]
        (tmp_path / "speech" / folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")

    speech("flite.0of2", "a", "b")
    speech("flite.1of2", "c")
    speech("piper", "p", "q", "r")
    folders = nano.Folders(tmp_path, (), tmp_path / "none", tmp_path / "none")

    def names(program: str, one: Share) -> list[str]:
        return [entry.identity for entry in nano.spoken(folders, program, one)]

    assert (names("flite", Share(0, 2)), names("flite", Share(1, 2))) == (["a", "b"], ["c"])
    assert names("flite", Share()) == ["a", "b", "c"]
    assert (names("piper", Share(0, 2)), names("piper", Share(1, 2))) == (["p", "r"], ["q"])
