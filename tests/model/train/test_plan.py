"""The plan: who says what, and what is never trained on."""

import gzip
import json
from pathlib import Path

from model.evaluate.holdout import TEXTS_FILE
from model.train.plan import write_plans
from model.train.voices import Program

CLIPS: dict[Program, int] = {"flite": 40, "espeak": 40}


def plan(folder: Path, earlier: int = 0) -> tuple[set[str], set[str]]:
    """Sentences of training and of the test."""
    texts = folder / "asterisk" / TEXTS_FILE
    texts.parent.mkdir(parents=True, exist_ok=True)
    texts.write_bytes(gzip.compress(b"; nothing\n"))
    sentences = folder / "sentences.txt"
    sentences.write_text("".join(f"sentence number {i} is read\n" for i in range(200)), encoding="utf-8")
    out = folder / f"plan{earlier}"
    write_plans(out, folder / "asterisk", sentences, None, CLIPS, 1, earlier)
    said: tuple[set[str], set[str]] = (set(), set())
    for path in out.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        said[path.name.startswith("test-")].update(json.loads(line)["text"] for line in lines)
    return said


def test_every_sentence_is_planned_once_and_none_of_the_test(tmp_path: Path) -> None:
    train, test = plan(tmp_path)
    assert len(train) == sum(CLIPS.values())
    assert test
    assert not train & test


def test_a_plan_that_goes_on_repeats_nothing_and_tests_on_neither(tmp_path: Path) -> None:
    first, _ = plan(tmp_path)
    second, test = plan(tmp_path, earlier=sum(CLIPS.values()))
    assert len(second) == len(first)
    assert not first & second
    assert not test & (first | second)
