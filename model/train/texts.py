"""What is spoken in the training audio.

In: a seed, the template file, and text sources (a file of sentences, WordNet's data files). Out: lower-case plain
sentences. Knows no voice. Invariant: no sentence equals, or contains as a run of four words or more, a text of the
Asterisk test fifth; sentences of the section `heldout` come only from `heldout_sentences`.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from model.evaluate.holdout import is_test, speakable
from model.train import words
from model.train.spoken import cardinal, clock, digits, money, ordinal, plain, year

TEMPLATES = Path(__file__).with_name("templates.txt")
WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
LONGEST_WORDS = 32


def load_templates() -> dict[str, list[str]]:
    """Section name -> template lines."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in TEMPLATES.read_text(encoding="utf-8").splitlines():
        if line.startswith("== "):
            current = sections.setdefault(line[3:].strip(), [])
        elif line and not line.startswith("#"):
            current.append(line)
    return sections


def expand(template: str, rng: random.Random) -> str:
    """One sentence of a template: `[a|b|]` picks an alternative, `{slot}` a filler. KeyError for unknown slots."""
    text = template
    while "[" in text:
        text = re.sub(r"\[([^][]*)\]", lambda m: rng.choice(m[1].split("|")), text)
    return plain(re.sub(r"\{(\w+)\}", lambda m: SLOTS[m[1]](rng), text))


def call_center(rng: random.Random) -> Iterator[str]:
    """An endless stream of sentences; templates are drawn with equal weight per section, but more of ivr."""
    sections = load_templates()
    names = ("agent", "customer", "ivr", "ivr", "talk")
    while True:
        yield expand(rng.choice(sections[rng.choice(names)]), rng)


def heldout_sentences(rng: random.Random, count: int) -> list[str]:
    """Sentences of the templates that are never trained on."""
    templates = load_templates()["heldout"]
    return [expand(templates[i % len(templates)], rng) for i in range(count)]


def open_sentences(rng: random.Random, sentence_file: Path, wordnet: Path | None) -> list[str]:
    """Read sentences and WordNet's usage examples and short glosses, shuffled; at most LONGEST_WORDS words each."""
    found = [plain(line) for line in sentence_file.read_text(encoding="utf-8").splitlines()]
    if wordnet is not None:
        for name in WORDNET_FILES:
            found += _wordnet_texts((wordnet / name).read_text(encoding="latin-1"))
    unique = sorted({text for text in found if 3 <= len(text.split()) <= LONGEST_WORDS})
    rng.shuffle(unique)
    return unique


def _wordnet_texts(data: str) -> list[str]:
    texts = []
    for line in data.splitlines():
        gloss = line.rpartition(" | ")[2] if not line.startswith("  ") else ""
        texts += [plain(example) for example in re.findall(r'"([^"]+)"', gloss)]
        definition = re.sub(r'"[^"]*"|\([^)]*\)', " ", gloss).partition(";")[0]
        if definition.isascii():
            texts.append(plain(definition))
    return texts


class TestTexts:
    """Tells whether a sentence gives away a text of the test fifth."""

    __test__ = False  # for pytest: no test class

    def __init__(self, prompt_texts: Sequence[str]) -> None:
        held = {plain(speakable(text)) for text in prompt_texts if is_test(text)}
        self._whole = {text for text in held if text}
        self._runs = tuple(f" {text} " for text in self._whole if len(text.split()) >= 4)

    def betrays(self, sentence: str) -> bool:
        """True when the sentence is a test text or contains one of four words or more."""
        padded = f" {sentence} "
        return sentence in self._whole or any(run in padded for run in self._runs)


def unique_sentences(source: Iterator[str], test_texts: TestTexts, count: int) -> list[str]:
    """The first `count` different sentences that betray no test text."""
    seen: dict[str, None] = {}
    for sentence in source:
        if len(sentence.split()) <= LONGEST_WORDS and not test_texts.betrays(sentence):
            seen.setdefault(sentence)
        if len(seen) >= count:
            break
    return list(seen)


def _digits(count: int) -> Callable[[random.Random], str]:
    def fill(rng: random.Random) -> str:
        zero = "oh" if rng.random() < 0.15 else "zero"
        return digits("".join(rng.choice("0123456789") for _ in range(count)), zero)

    return fill


def _pick(choices: Sequence[str]) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(choices)


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: cardinal(rng.randint(low, high))


def _phone(rng: random.Random) -> str:
    return _digits(rng.choice((7, 10)))(rng)


def _money(rng: random.Random) -> str:
    whole = rng.choice((rng.randint(1, 99), rng.randint(1, 999), rng.randint(1, 99) * 10))
    return money(whole * 100 + rng.choice((0, rng.randint(1, 99), 99, 50)))


def _clock(rng: random.Random) -> str:
    return clock(rng.randint(0, 23), rng.choice((0, 0, 15, 30, 45, rng.randint(1, 59))))


def _ordinal_day(rng: random.Random) -> str:
    return ordinal(rng.randint(1, 31))


def _date(rng: random.Random) -> str:
    return f"{rng.choice(words.MONTHS)} {_ordinal_day(rng)}"


def _duration(rng: random.Random) -> str:
    unit, most = rng.choice(
        (("second", 59), ("minute", 59), ("hour", 24), ("day", 30), ("week", 8), ("month", 12))
    )
    value = rng.randint(1, most)
    return f"{cardinal(value)} {unit}{'' if value == 1 else 's'}"


def _code(rng: random.Random) -> str:
    return " ".join(rng.choice(words.LETTERS) if rng.random() < 0.4 else _digits(1)(rng) for _ in range(6))


def _letters(rng: random.Random) -> str:
    return " ".join(rng.choice(words.LETTERS) for _ in range(rng.randint(3, 7)))


def _phonetic(rng: random.Random) -> str:
    return " ".join(rng.choice(words.PHONETIC) for _ in range(rng.randint(2, 5)))


def _full(rng: random.Random) -> str:
    return f"{rng.choice(words.FIRST)} {rng.choice(words.LAST)}"


def _email(rng: random.Random) -> str:
    return (
        f"{rng.choice(words.FIRST)} {rng.choice(('dot', 'underscore', 'dash'))} {rng.choice(words.LAST)} at "
        + (f"{rng.choice(words.DOMAINS)} dot {rng.choice(('com', 'org', 'net'))}")
    )


SLOTS: dict[str, Callable[[random.Random], str]] = {
    "first": _pick(words.FIRST),
    "last": _pick(words.LAST),
    "full": _full,
    "spelled": _letters,
    "letterseq": _letters,
    "phoneticseq": _phonetic,
    "company": _pick(words.COMPANIES),
    "dept": _pick(words.DEPARTMENTS),
    "product": _pick(words.PRODUCTS),
    "service": _pick(words.SERVICES),
    "city": _pick(words.CITIES),
    "street": _pick(words.STREETS),
    "month": _pick(words.MONTHS),
    "weekday": _pick(words.WEEKDAYS),
    "dayword": _pick(("today", "tomorrow", "tonight", "this afternoon", "next week")),
    "ivraction": _pick(words.IVR_ACTIONS),
    "asterword": _pick(words.PBX_WORDS),
    "asternoun": _pick(words.PBX_NOUNS),
    "asterverb": _pick(words.PBX_VERBS),
    "asterstate": _pick(words.PBX_STATES),
    "digit": _digits(1),
    "digits3": _digits(3),
    "digits4": _digits(4),
    "digits5": _digits(5),
    "digits6": _digits(6),
    "digits8": _digits(8),
    "digits16": _digits(16),
    "number1": _number(2, 12),
    "number2": _number(1, 99),
    "number3": _number(1, 999),
    "number4": _number(0, 9999),
    "ordinal": _ordinal_day,
    "percent": lambda rng: f"{cardinal(rng.randint(1, 100))} percent",
    "phone": _phone,
    "money": _money,
    "clock": _clock,
    "date": _date,
    "year": lambda rng: year(rng.randint(1940, 2029)),
    "duration": _duration,
    "code": _code,
    "email": _email,
}
