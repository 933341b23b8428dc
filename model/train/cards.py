"""The data cards: what each source of training data is, whose it is, and under which licence.

In: the folder cards/, one Markdown file per source: a heading with its name, then `- field: text` for every field of
`Card`. Out: cards, and the licence of what is made of several sources. Knows no data.
Invariant: a card has all of its fields; a source without a card is an error, not a guess.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("cards")
FIELDS = ("what", "who", "licence", "amount", "not good for", "how to get it")


class CardError(ValueError):
    """A source has no card, or its card lacks a field."""


@dataclass(frozen=True)
class Card:
    """`licence`: an SPDX identifier. `limits`: what the data is not good for. `how`: how to get it."""

    name: str
    what: str
    who: str
    licence: str
    amount: str
    limits: str
    how: str


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
    if heading != f"# {name}" or tuple(found) != FIELDS or not all(map(str.strip, found.values())):
        raise CardError(f"{path}: a heading `# {name}`, then {', '.join(FIELDS)}, in this order")
    return Card(name, *found.values())


def licence(sources: Iterable[str]) -> str:
    """Of what is made of these sources: an SPDX expression, every licence once. Raises CardError; also for none."""
    found = sorted({card(source).licence for source in sources})
    if not found:
        raise CardError("a licence needs a source")
    return " AND ".join(found)
