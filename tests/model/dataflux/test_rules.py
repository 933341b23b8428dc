"""What a reply must be, which questions may be asked, and what a journal survives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.dataflux import prompts, replies
from model.dataflux.errors import Misconfigured, Unusable
from model.dataflux.items import broken_rule, placed
from model.dataflux.journal import FILE, Journal
from model.dataflux.outcomes import Outcome, outcomes
from model.dataflux.values import Answer, Item, Verdict, plain, restored

CATEGORIES = prompts.load().categories
PLACE = "Sound > Time > count"
GOOD = Item("How often does the bell ring?", ("Once", "Twice", "Three times", "Never"), 1, PLACE)


def item(
    text: str = GOOD.text, options: tuple[str, ...] = GOOD.options, key: int = 1, where: str = PLACE
) -> Item:
    return Item(text, options, key, where)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        (None, GOOD),
        (None, item("How is the passage of music best described?", ("Calm", "Lively", "Gloomy", "Solemn"))),
        ("four_options", item(options=("Once", "Twice", "Never"))),
        ("four_options", item(options=("Once", "Twice", "Never", " "))),
        ("four_options", item(key=4)),
        ("options_differ", item(options=("Once", "Twice", "twice.", "Never"))),
        ("one_question", item("It rings how often")),
        ("by_listening", item("According to the description, how often does it ring?")),
        ("by_listening", item(options=("Once", "Twice", "As mentioned", "Never"))),
        ("no_evasion", item(options=("Once", "Twice", "Never", "None of the above"))),
        ("known_category", item(where="Sound > Time > tempo")),
        ("key_in_question", item("Does the bell ring twice or more often?")),
        ("short_options", item(options=("Once", "Twice", "Never", "often " * 30))),
    ],
)
def test_rules_of_a_question(rule: str | None, broken: Item) -> None:
    assert broken_rule(broken, frozenset(CATEGORIES)) == rule


def test_the_right_option_stands_anywhere_and_every_time_at_the_same_place() -> None:
    every = [placed(GOOD, f"clip-{n}", 0, seed=1) for n in range(400)]
    assert all(
        one.options[one.key] == "Twice" and sorted(one.options) == sorted(GOOD.options) for one in every
    )
    assert [placed(GOOD, f"clip-{n}", 0, seed=1) for n in range(400)] == every
    assert all(70 <= sum(one.key == place for one in every) <= 130 for place in range(4))


ANSWERS = {"MODEL_A": Answer(1, "a"), "MODEL_B": Answer(1, "b"), "MODEL_C": Answer(2, "c")}
TIED = {"consensus": False, "consistency_with_caption": "STRONG_MATCH", "winner": "TIE", "reasoning": "x"}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"final_action": "KEEP_USING_WINNER"}, None),
        ({"final_action": "DISCARD", "winner": "NONE", "consistency_with_caption": "CONFLICT"}, None),
        ({"final_action": "KEEP_USING_WINNER", "winner": "NONE"}, "contradiction"),
        ({"final_action": "KEEP_USING_WINNER", "consistency_with_caption": "CONFLICT"}, "contradiction"),
        ({"final_action": "KEEP_USING_WINNER", "consensus": True}, "contradiction"),
        ({"final_action": "KEEP_USING_WINNER", "winner": "MODEL_D"}, "contradiction"),
        ({"final_action": "KEEP"}, "schema"),
        ({"final_action": "DISCARD", "consensus": "yes"}, "schema"),
        ({}, "schema"),
    ],
)
def test_a_verdict_must_fit_itself_and_the_answers(changed: dict[str, object], reason: str | None) -> None:
    text = json.dumps(TIED | changed)
    if reason is None:
        assert (
            replies.verdict(f"<think>{{</think> Here it is: {text}", ANSWERS).final_action
            == changed["final_action"]
        )
        return
    with pytest.raises(Unusable) as refused:
        replies.verdict(text, ANSWERS)
    assert refused.value.reason == reason
    two = dict(list(ANSWERS.items())[1:])
    tie = Verdict(False, "STRONG_MATCH", "TIE", "", "KEEP_USING_WINNER")
    assert replies.contradiction(tie, two) == "a tie between different options"


def test_the_winner_s_option_is_taken_and_of_a_tie_the_one_that_most_chose() -> None:
    def chosen(winner: str) -> int | None:
        return replies.chosen(Verdict(False, "WEAK_MATCH", winner, "", "KEEP_USING_WINNER"), ANSWERS)

    assert [chosen(winner) for winner in ("MODEL_C", "TIE", "NONE")] == [2, 1, None]


def test_a_key_that_the_judge_disputes_is_discarded() -> None:
    keeps = Verdict(False, "STRONG_MATCH", "MODEL_B", "", "KEEP_USING_WINNER")
    written = {"items": [plain(GOOD)], "rejected": {}}
    steps = {
        "clip": {"audio": "a.wav", "seconds": 1.0, "source": "s", "licence": "l"},
        "caption": {"text": "c", "facts": None},
        "category": PLACE,
        "items": written,
        "answer/0/x": plain(Answer(1, "t")),
        "answer/0/y": plain(Answer(3, "t")),
        "verdict/0": plain(keeps),
        "end": True,
    }
    lines = [{"clip": "n", "step": step, "value": value} for step, value in steps.items()]

    def judged(**models: str) -> Outcome:
        (clip,) = outcomes([line | {"models": models} for line in lines], ["x", "y"])
        return clip.items[0]

    agreed, disputed = judged(MODEL_A="y", MODEL_B="x"), judged(MODEL_A="x", MODEL_B="y")
    assert (agreed.fate, agreed.winner, agreed.choice, agreed.hard) == ("kept", "x", 1, True)
    assert (disputed.fate, disputed.winner, disputed.choice) == ("judge and key disagree", "y", 3)
    assert restored(Item, json.loads(json.dumps(plain(GOOD)))) == GOOD


def test_a_journal_survives_a_torn_line_and_belongs_to_one_run_and_one_process(tmp_path: Path) -> None:
    with Journal(tmp_path, {"seed": 1}) as first:
        first.note("a", "caption", value="x")
        first.note("b", "caption", discarded="refusal", unusable=["refusal"])
        with pytest.raises(Misconfigured, match="another process"):
            Journal(tmp_path, {"seed": 1})
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole + b'{"clip": "c", "st')
    with Journal(tmp_path, {"seed": 1}) as again:
        assert (tmp_path / FILE).read_bytes() == whole
        assert again.find("b", "caption") == {
            "clip": "b",
            "step": "caption",
            "discarded": "refusal",
            "unusable": ["refusal"],
        }
        again.note("c", "caption", value="y")
        assert [line["clip"] for line in again.lines()] == ["a", "b", "c"]
    with pytest.raises(Misconfigured, match="other seed"):
        Journal(tmp_path, {"seed": 2})


def test_prompts_have_versions_and_all_their_places(tmp_path: Path) -> None:
    ours = prompts.load()
    for path in prompts.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert prompts.load(tmp_path).version == ours.version
    judge = (tmp_path / "judge.txt").read_text()
    (tmp_path / "judge.txt").write_text(judge.replace("two sentences", "one sentence"))
    assert prompts.load(tmp_path).version != ours.version
    (tmp_path / "judge.txt").write_text(judge.replace("$answers", ""))
    with pytest.raises(Misconfigured, match=r"judge\.txt must have these places"):
        prompts.load(tmp_path)
    (tmp_path / "judge.txt").write_text(judge.removeprefix("# version 1\n"))
    with pytest.raises(Misconfigured, match="version"):
        prompts.load(tmp_path)
