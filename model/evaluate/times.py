"""Are words where the engine says they are?

In: what was heard of references whose words have known times. Out: differences of starts and ends in ms. Knows no
engine. Invariant: only words that were heard rightly are compared, and how many of all those are is told.

The engine's times come from a grid of 80 ms (CTC on audio tokens), so a perfect one still differs by 20 ms on average.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.evaluate.heard import Heard, matches
from model.evaluate.measures import Measure


def differences(name: str, heard: Sequence[Heard], note: str = "") -> list[Measure]:
    """Medians over words of |start − start| and |end − end|, both signed as well, and the share of words compared.

    Raises ValueError when no reference has word times.
    """
    starts, ends, compared, known = [], [], [], []
    for one in heard:
        words = one.reference.words
        pairs = matches(one) if words else ()
        compared.append(float(len(pairs)))
        known.append(float(len(words)))
        for said, found in pairs:
            starts.append(float(one.words[found].start_ms - words[said][1]))
            ends.append(float(one.words[found].end_ms - words[said][2]))
    if not sum(known):
        raise ValueError(f"{name}: no word has a known time")

    def median(what: str, values: list[float]) -> Measure:
        return Measure(f"{name}: {what}", "ms", "lower", tuple(values), None, 1.0, note)

    return [
        median("word starts, median absolute difference", [abs(value) for value in starts]),
        median("word ends, median absolute difference", [abs(value) for value in ends]),
        median("word starts, median difference (late > 0)", starts),
        median("word ends, median difference (late > 0)", ends),
        Measure(f"{name}: words compared", "%", "higher", tuple(compared), tuple(known), note=note),
    ]
