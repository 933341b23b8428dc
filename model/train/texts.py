"""What is spoken in the training audio.

In: a seed, the templates, and text sources (a file of sentences, WordNet's data files). Out: lower-case plain
sentences. Knows no voice and no filler (slots.py). Invariant: no sentence equals, or contains as a run of four words
or more, a text of the Asterisk test fifth, nor shares five words in a row with the fixed text of a held-out template;
sentences of the section `heldout` come only from `heldout_sentences`.
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.evaluate.holdout import is_test, speakable
from model.train import words
from model.train.slots import fill
from model.train.spoken import plain

TEMPLATES = Path(__file__).with_name("templates.txt")
# One file per domain, written later and far wider: most of what is trained comes from here.
WIDE_TEMPLATES = Path(__file__).with_name("templates")
WIDE_SHARE = 0.75
# A fixed sentence is planned once; what is said around it makes more of it than a text to be known by heart.
OPENED_SHARE, CLOSED_SHARE, JOINED_SHARE, JOINED_WORDS = 0.25, 0.15, 0.3, 14
WORDNET_FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
# How much of the open text is read sentences, WordNet's usage examples, and its definitions.
OPEN_MIX = (0.35, 0.4, 0.25)
LONGEST_WORDS = 32
RUN_WORDS = 5


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


def wide_templates() -> dict[str, list[str]]:
    """Domain (banking, travel …) -> its templates."""
    return {
        path.stem: [
            line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] not in ("", "#")
        ]
        for path in sorted(WIDE_TEMPLATES.glob("*.txt"))
    }


def expand(template: str, rng: random.Random) -> str:
    """One sentence of a template: `[a|b|]` picks an alternative, `{slot}` a filler. KeyError for unknown slots."""
    text = template
    while "[" in text:
        text = re.sub(r"\[([^][]*)\]", lambda m: rng.choice(m[1].split("|")), text)
    return plain(fill(text, rng))


def call_center(rng: random.Random) -> Iterator[str]:
    """An endless stream of sentences, none with a run of words of a held-out template.

    The wide templates are drawn with equal weight each; the first ones with equal weight per section, but more of ivr.
    """
    sections, held = load_templates(), HeldOutTexts()
    wide, names = wide_templates(), ("agent", "customer", "ivr", "ivr", "talk")
    pairs = [(domain, template) for domain, lines in wide.items() for template in lines]
    while True:
        if rng.random() < WIDE_SHARE:
            domain, template = rng.choice(pairs)
            sentence = _turn(template, wide[domain], rng)
        else:
            sentence = expand(rng.choice(sections[rng.choice(names)]), rng)
        if not held.betrays(sentence):
            yield sentence


def _turn(template: str, domain: Sequence[str], rng: random.Random) -> str:
    """A template's sentence, now and then with a word before or after it, or with another one of its domain."""
    said = [expand(template, rng)]
    if rng.random() < OPENED_SHARE:
        said.insert(0, rng.choice(words.OPENERS))
    if rng.random() < CLOSED_SHARE:
        said.append(rng.choice(words.CLOSERS))
    if rng.random() < JOINED_SHARE and len(" ".join(said).split()) <= JOINED_WORDS:
        said.append(expand(rng.choice(domain), rng))
    return " ".join(said)


def runs(sentence: str) -> set[str]:
    """Every run of RUN_WORDS words."""
    said = sentence.split()
    return {" ".join(said[i : i + RUN_WORDS]) for i in range(len(said) - RUN_WORDS + 1)}


class HeldOutTexts:
    """Tells whether a sentence gives away a held-out template."""

    def __init__(self) -> None:
        texts = [text for line in load_templates()["heldout"] for text in variants(line)]
        pieces = [[plain(piece) for piece in re.split(r"\{\w+\}", text)] for text in texts]
        self._runs = {run for fixed in pieces for piece in fixed for run in runs(piece)}
        whole = "|".join(r"\b.+\b".join(re.escape(piece) for piece in fixed) for fixed in pieces)
        self._whole = re.compile(rf"\b(?:{whole})\b")

    def betrays(self, sentence: str) -> bool:
        """True when the sentence holds a whole template, or a run of words of its fixed text, whatever the fillers."""
        return bool(self._runs & runs(sentence)) or self._whole.search(sentence) is not None


def variants(template: str) -> list[str]:
    """A template with its alternatives written out, slots left as they are."""
    match = re.search(r"\[([^][]*)\]", template)
    if match is None:
        return [template]
    head, tail = template[: match.start()], template[match.end() :]
    return [text for choice in match[1].split("|") for text in variants(head + choice + tail)]


def heldout_sentences(rng: random.Random, count: int) -> list[str]:
    """Sentences of the templates that are never trained on."""
    templates = load_templates()["heldout"]
    return [expand(templates[i % len(templates)], rng) for i in range(count)]


def open_sentences(rng: random.Random, sentence_file: Path, wordnet: Path | None) -> dict[str, str]:
    """Read sentences, WordNet's usage examples and its definitions -> the data card of each.

    In a random order that mixes them by OPEN_MIX. At most LONGEST_WORDS words each; what is left of the longest kind
    comes last. Without WordNet: the sentences.
    """
    held = HeldOutTexts()
    kinds = [
        [plain(line) for line in sentence_file.read_text(encoding="utf-8").splitlines()],
        *(_wordnet_texts(wordnet) if wordnet is not None else ([], [])),
    ]
    pools = [
        sorted({text for text in kind if 3 <= len(text.split()) <= LONGEST_WORDS and not held.betrays(text)})
        for kind in kinds
    ]
    for pool in pools:
        rng.shuffle(pool)
    mixed: dict[str, str] = {}
    while any(pools):
        weights = [share if pool else 0.0 for share, pool in zip(OPEN_MIX, pools, strict=True)]
        kind = rng.choices(range(len(pools)), weights)[0]
        mixed.setdefault(pools[kind].pop(), "sentences" if kind == 0 else "wordnet")
    return mixed


def _wordnet_texts(folder: Path) -> tuple[list[str], list[str]]:
    """Usage examples; definitions."""
    examples: list[str] = []
    definitions: list[str] = []
    for name in WORDNET_FILES:
        for line in (folder / name).read_text(encoding="latin-1").splitlines():
            gloss = line.rpartition(" | ")[2] if not line.startswith("  ") else ""
            examples += [plain(example) for example in re.findall(r'"([^"]+)"', gloss)]
            definition = re.sub(r'"[^"]*"|\([^)]*\)', " ", gloss).partition(";")[0]
            if definition.isascii():
                definitions.append(plain(definition))
    return examples, definitions


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
