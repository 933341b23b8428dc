"""One of several equal shares of the clips, so that several processes speak and encode at the same time.

In: `INDEX/OF` from the command line. Out: which items are this process's, and the names of what it writes.
Knows no audio. Invariant: the shares of one `of` are disjoint and together everything; the whole (0/1) has the names
and the seeds of a run that knows no shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The share `index` of `of`."""

    index: int = 0
    of: int = 1

    @property
    def whole(self) -> bool:
        """Whether this is everything."""
        return self.of == 1

    @property
    def suffix(self) -> str:
        """What tells this share's folders and shards from another's."""
        return "" if self.whole else f".{self.index}of{self.of}"

    def take(self, items: Sequence[T]) -> Sequence[T]:
        """Every `of`-th item."""
        return items[self.index :: self.of]

    def seed(self, seed: int) -> Sequence[int]:
        """For `numpy.random.default_rng`: another one for each share."""
        return [seed] if self.whole else [seed, self.index, self.of]


def parse(text: str) -> Share:
    """ "3/14" → the fourth of fourteen shares. ValueError for anything that is no share."""
    index, slash, of = text.partition("/")
    share = Share(int(index), int(of)) if slash and index.isdecimal() and of.isdecimal() else Share(-1, 0)
    if not 0 <= share.index < share.of:
        raise ValueError(f"{text!r} is no share; 0/4, 1/4, 2/4 and 3/4 are the four quarters")
    return share
