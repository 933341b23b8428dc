import random
import re

import pytest

from model.evaluate.holdout import is_test, normalise
from model.train import texts
from model.train.spoken import cardinal, clock, digits, money, ordinal, plain, year


def test_numbers_are_spoken() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(1_234_567) == "one million two hundred thirty four thousand five hundred sixty seven"
    assert ordinal(21) == "twenty first"
    assert ordinal(40) == "fortieth"
    assert digits("4-05") == "four zero five"
    assert year(1905) == "nineteen oh five"
    assert money(1250) == "twelve dollars and fifty cents"
    assert clock(15, 5) == "three oh five p m"
    with pytest.raises(ValueError):
        cardinal(-1)


def test_plain_text_is_words_only() -> None:
    assert plain("Press 1, or dial $2.50 — it's the 3rd “Café”!") == (
        "press one or dial two dollars and fifty cents it's the third cafe"
    )
    assert plain("`I don't agree with this,' she said") == "i don't agree with this she said"
    assert plain("28.8 kilobit, 0500") == "twenty eight point eight kilobit zero five zero zero"


@pytest.mark.parametrize("section", ["agent", "customer", "ivr", "talk", "heldout"])
def test_every_template_expands_to_plain_words(section: str) -> None:
    rng = random.Random(3)
    for template in texts.load_templates()[section]:
        for _ in range(3):
            sentence = texts.expand(template, rng)
            assert re.fullmatch(r"[a-z]['a-z]*( [a-z']+)*", sentence), template


def test_held_out_templates_are_never_trained_on() -> None:
    sections = texts.load_templates()
    trained = {line for name, lines in sections.items() if name != "heldout" for line in lines}
    assert not trained & set(sections["heldout"])


def test_the_rule_of_the_test_fifth_depends_on_the_words_alone() -> None:
    assert normalise("Please hold (beep), [tone] won’t you?") == "please hold won't you"
    assert is_test("Please hold.") == is_test("please HOLD [simple tone]")
    share = sum(is_test(f"sentence number {i}") for i in range(2000)) / 2000
    assert 0.17 < share < 0.23


def test_sentences_betray_no_test_text() -> None:
    held = next(text for i in range(100) if is_test(text := f"your call number {i} is held"))
    test_texts = texts.TestTexts([held, "not a test text, or perhaps it is"])
    spoken = plain(held)
    assert test_texts.betrays(spoken)
    assert test_texts.betrays(f"well {spoken} now")
    assert not test_texts.betrays("another sentence")
    kept = texts.unique_sentences(iter([spoken, "a b", "a b", "c d"]), test_texts, 5)
    assert kept == ["a b", "c d"]


def test_wide_templates_are_many_different_and_plain() -> None:
    lines = [line for domain in texts.wide_templates().values() for line in domain]
    assert len(set(lines)) == len(lines) >= 1800
    rng = random.Random(4)
    for template in lines:
        sentence = texts.expand(template, rng)
        assert re.fullmatch(r"[a-z]['a-z]*( [a-z']+)*", sentence), template
        assert len(template.split()) <= 25


def test_no_trained_text_shares_five_words_with_a_held_out_template() -> None:
    # A slot counts as a word here, so that "a payment of {money} that" would be found as well.
    held = {run for line in texts.load_templates()["heldout"] for run in _runs_with_slots(line)}
    assert len(held) > 100
    for domain, lines in texts.wide_templates().items():
        for template in lines:
            assert not held & _runs_with_slots(template), (domain, template)


@pytest.mark.parametrize(
    ("sentence", "betrays"),
    [
        ("they sent the wrong phone to the wrong address", True),
        ("well there is a charge for two dollars that i never agreed to", True),
        ("somebody says it is for something that i never agreed to", True),
        ("they sent the wrong phone to my address", False),
        ("she never agreed to that", False),
    ],
)
def test_held_out_templates_are_known_whatever_fills_them(sentence: str, betrays: bool) -> None:
    assert texts.HeldOutTexts().betrays(sentence) == betrays


def test_sentences_of_held_out_templates_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    leak = "they sent the wrong {product} to the wrong address"
    monkeypatch.setattr(texts, "wide_templates", lambda: {"leak": [leak, "nothing of the kind was said"]})
    monkeypatch.setattr(texts, "WIDE_SHARE", 1.0)
    sentences = texts.call_center(random.Random(6))
    assert not any("to the wrong address" in next(sentences) for _ in range(50))


def _runs_with_slots(template: str) -> set[str]:
    return {run for text in texts.variants(template) for run in texts.runs(re.sub(r"\{\w+\}", "@", text))}
