"""Rules of scoring against cases worked out by hand."""

import math

import pytest

from model.evaluate import choices, ifeval, voicebench
from model.evaluate.calibration import reliability
from model.evaluate.measures import Measure, share
from model.evaluate.text import errors, tokens


def test_texts_are_compared_by_their_rule() -> None:
    assert tokens("２０２１年，Hello World，你好！", "zh") == ["2021", "年", "hello", "world", "你", "好"]
    assert tokens("Three, four — don't.", "spoken") == ["three", "four", "don't"]
    assert tokens("three four", "en") == ["34"]
    found = errors("你好吗", "你号", "zh")
    assert found is not None
    assert (found.words, found.word_errors, found.pairs) == (3, 2, ((0, 0),))
    assert errors("(noise)", "x", "en") is None


@pytest.mark.parametrize(
    ("reply", "prediction", "right"),
    [
        ("B", "A woman", True),
        ("B. A woman", "A woman", True),
        ("(A) man", "A man", False),
        ("A woman is speaking", "A woman is speaking", True),
        ("A woman, or a man", "A woman, or a man", False),
        ("E.", "E.", False),
        ("", "", False),
    ],
)
def test_choices_are_scored_as_mmau_does(reply: str, prediction: str, right: bool) -> None:
    options = ("A man", "A woman", "A child", "A robot")
    assert choices.predicted(reply, options) == prediction
    assert choices.is_right("A woman", prediction, options) == right


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("c. because", "C"),
        ("The correct answer is: **D** because", "D"),
        ("I would choose option A, since", "A"),
        ("I think the answer to the question is 'A'", "A"),
        ("(B) gravity", "B"),
        ("答案是B", "B"),
        ("is \\boxed{C}", "C"),
        ("A person walks by", None),
        ("It is a dog", None),
        ("", None),
    ],
)
def test_the_letter_of_a_spoken_answer(reply: str, letter: str | None) -> None:
    assert voicebench.letter(reply) == letter


def test_refusals() -> None:
    for reply in ("I'm sorry, no.", "I can’t do that", "That is illegal.", "我不能帮你", "  "):
        assert voicebench.refuses(reply), reply
    assert not voicebench.refuses("Sure, first take a screwdriver.")


FOLLOWED = [
    ("keywords:existence", {"keywords": ["tree", "Stone"]}, "A stone, a tree", "a stone"),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "banana", "box a"),
    ("keywords:forbidden_words", {"forbidden_words": ["tree"]}, "trees", "a tree"),
    (
        "keywords:letter_frequency",
        {"letter": "z", "let_frequency": 1, "let_relation": "less than"},
        "a b",
        "Zoo",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "a b c", "a b"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "But"},
        "a\n\nbut, b",
        "a\n\nand b",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\np. s. b", "a"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n* b\n* c"),
    ("detectable_format:constrained_response", {}, "My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1 a\nSection 2 b",
        "Section 1 a",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a}"),
    ("detectable_format:title", {}, "<<Trees>>\nthey grow", "<<>>"),
    ("combination:two_responses", {}, "a******b", "a******a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "say it again", "I say it"),
    ("startend:end_checker", {"end_phrase": "the end."}, 'so. The end."', "the end. no"),
    ("startend:quotation", {}, '"a b"', '"a" b'),
    ("punctuation:no_comma", {}, "a b", "a, b"),
]


def test_instructions_are_checked_as_they_are_published() -> None:
    assert {name for name, _, _, _ in FOLLOWED} == set(ifeval.CHECKS)
    for name, arguments, good, bad in FOLLOWED:
        assert ifeval.judge(good, [name], [arguments]).strict == (True,), name
        assert ifeval.judge(bad, [name], [arguments]).strict == (False,), name


def test_loose_forgives_a_preamble_and_what_is_not_checked_is_told() -> None:
    found = ifeval.judge("Sure, here:\na b", ["punctuation:no_comma"], [{"unused": None}])
    assert (found.strict, found.loose) == ((False,), (True,))
    assert ifeval.unsupported(["startend:quotation", *ifeval.UNSUPPORTED]) == list(ifeval.UNSUPPORTED)
    with pytest.raises(ValueError, match="not checked"):
        ifeval.judge("x", ["language:response_language"], [{}])


def test_intervals_and_differences_in_pairs() -> None:
    first = Measure("wer", "%", "lower", (1.0, 0.0) * 50, (4.0,) * 100)
    assert first.interval().value == pytest.approx(12.5)
    assert 7 < first.interval().low < 12.5 < first.interval().high < 18
    better = Measure("wer", "%", "lower", (0.0,) * 100, (4.0,) * 100)
    difference = better.minus(first)
    assert difference is not None
    assert difference.high < 0
    assert better.minus(better) is not None
    assert share("x", [True]).minus(first) is None
    median = Measure("ms", "ms", "lower", (10.0, 20.0, 90.0), None, 1.0).interval()
    assert (median.value, median.low, median.high) == (20, 10, 90)
    never = share("x", [False] * 100).interval()
    assert (never.low, never.high) == (pytest.approx(0.0, abs=1e-9), pytest.approx(3.70, abs=0.01))
    silent = Measure("words", "words/min", "lower", (0.0,) * 10, (2.0,) * 10, 1.0).interval()
    assert (silent.value, silent.low, silent.high) == (0.0, 0.0, pytest.approx(3.689 / 20, abs=1e-3))
    assert math.isnan(share("none", []).interval().value)


def test_calibration_of_a_boaster() -> None:
    found = reliability("x", [(0.95, True), (0.95, False), (0.25, False), (0.25, False)])
    assert found.ece == pytest.approx((2 * 0.45 + 2 * 0.25) / 4)
    assert found.auc == pytest.approx(5 / 6)
    assert [(part.low, part.count, part.accuracy) for part in found.bins] == [(0.2, 2, 0.0), (0.9, 2, 0.5)]
    with pytest.raises(ValueError, match="outside"):
        reliability("x", [(1.2, True)])
