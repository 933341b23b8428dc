"""The data cards: what each source of training data is, whose it is, and under which licence.

In: the folder cards/, one Markdown file per source: a heading with its name, then `- field: text` for every field of
`Card`. Out: cards, and the licence of what is made of several sources. Knows no data.
Invariant: a card has all of its fields, and all of PEOPLE or none: a card of recordings of people who did not publish
them says under which consent they are used, what is personal in them, and when they go. A source without a card is an
error, not a guess.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("cards")
FIELDS = ("what", "who", "licence", "amount", "not good for", "how to get it")
PEOPLE = ("consent", "personal data", "expiry")


class CardError(ValueError):
    """A source has no card, or its card lacks a field."""


@dataclass(frozen=True)
class Card:
    """`licence`: an SPDX identifier. `limits`: what the data is not good for. `how`: how to get it.

    The last three are empty for what was published, or made.
    """

    name: str
    what: str
    who: str
    licence: str
    amount: str
    limits: str
    how: str
    consent: str = ""
    personal_data: str = ""
    expiry: str = ""


def names() -> tuple[str, ...]:
    """All sources that have a card."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.md")))


@cache
def card(name: str) -> Card:
    """The card of a source. Raises CardError."""
    path = FOLDER / f"{name}.md"
    if name not in names():
        raise CardError(f"no data card for the source {name!r}: {', '.join(names())} have one")
    heading, *lines = path.read_text(encoding="utf-8").splitlines()
    found = dict(line.removeprefix("- ").split(": ", 1) for line in lines if line.startswith("- "))
    whole = tuple(found) in (FIELDS, FIELDS + PEOPLE) and all(map(str.strip, found.values()))
    if heading != f"# {name}" or not whole:
        wanted = f"{', '.join(FIELDS)}, and perhaps {', '.join(PEOPLE)}"
        raise CardError(f"{path}: a heading `# {name}`, then {wanted}, in this order")
    return Card(name, *found.values())


def in_manifest(source: str) -> tuple[str, ...]:
    """The cards that a manifest's `source` names: "flite, wordnet"; "librispeech/dev-other" is a part of a source.

    Raises CardError where one has no card.
    """
    return tuple(card(name.partition("/")[0].strip()).name for name in source.split(","))


def licence(sources: Iterable[str]) -> str:
    """Of what is made of these sources: an SPDX expression, every licence once. Raises CardError; also for none."""
    found = sorted({card(source).licence for source in sources})
    if not found:
        raise CardError("a licence needs a source")
    return " AND ".join(found)
