"""Words that two recognisers hear alike; the recogniser itself is an extra that CI does not install."""

from pathlib import Path

import pytest

from model.train import label_words


def test_only_what_is_heard_alike_is_kept_with_the_new_words() -> None:
    items = [
        {"file": "a", "text": "Mrs. Lind is surprised.", "seconds": 2.0},
        {"file": "b", "text": "Chapter one", "seconds": 1.0},
        {"file": "c", "text": "nobody", "seconds": 1.0},
    ]
    heard = {"a": "Mrs. Linde is surprised.", "b": "a song begins", "c": ""}
    assert label_words.merged(items, heard) == [
        {**items[0], "text": "Mrs. Linde is surprised.", "label": label_words.LABEL}
    ]


def test_an_index_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*none\.json"):
        label_words.main([str(tmp_path / "none.json")])
