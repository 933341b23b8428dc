"""CTC prefix beam search: the likeliest texts of one clip, not only the text of the likeliest path.

In: log-probabilities `[N, V + 1]` of one clip, blank last. Out: id sequences, likeliest first. Knows no decoder and no
language; who joins their scores with the decoder's is `model.transcript`.
Invariant: the texts are different, none needs more audio tokens than there are, and the search is deterministic: of
equals the smaller ids come first.

Prefix search after Graves et al. 2006, section 3.2, with a beam: every prefix keeps two probabilities, of the paths
that end in a blank and of those that end in its last token, because a repeated token needs a blank between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

Ids = tuple[int, ...]
NEVER = -math.inf
CANDIDATES = 12  # tokens looked at per frame
FLOOR = math.log(1e-3)  # and how likely one must be


def search(log_probs_NV: Tensor, width: int, ignored: Iterable[int] = ()) -> list[Ids]:
    """At most `width` texts; tokens in `ignored` are never part of one. `width` at least 1, else ValueError."""
    if width < 1:
        raise ValueError(f"a beam of width {width}")
    blank = log_probs_NV.shape[1] - 1
    skipped = {blank, *ignored}
    top = log_probs_NV.float().topk(min(CANDIDATES + len(skipped), blank + 1), dim=1)
    beam: dict[Ids, tuple[float, float]] = {(): (0.0, NEVER)}
    for blank_log, logs, tokens in zip(
        log_probs_NV[:, -1].tolist(), top.values.tolist(), top.indices.tolist(), strict=True
    ):
        likely = [
            (token, log)
            for token, log in zip(tokens, logs, strict=True)
            if log >= FLOOR and token not in skipped
        ]
        beam = _step(beam, blank_log, dict(likely[:CANDIDATES]), width)
    return list(beam)


def _step(
    beam: dict[Ids, tuple[float, float]], blank_log: float, likely: dict[int, float], width: int
) -> dict[Ids, tuple[float, float]]:
    """One frame: every prefix stays or grows by a token; the likeliest `width` go on, likeliest first."""
    grown: dict[Ids, tuple[float, float]] = {}
    for prefix, (in_blank, in_token) in beam.items():
        whole = _add(in_blank, in_token)
        last = prefix[-1] if prefix else None
        stay = in_token + likely[last] if last is not None and last in likely else NEVER
        before = grown.get(prefix, (NEVER, NEVER))
        grown[prefix] = (_add(before[0], whole + blank_log), _add(before[1], stay))
        for token, log in likely.items():
            start = in_blank if token == last else whole
            if start > NEVER:
                longer = (*prefix, token)
                before = grown.get(longer, (NEVER, NEVER))
                grown[longer] = (before[0], _add(before[1], start + log))
    best = sorted(grown.items(), key=lambda item: (-_add(*item[1]), item[0]))
    return {prefix: logs for prefix, logs in best[:width] if _add(*logs) > NEVER}


def _add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    high, low = (a, b) if a > b else (b, a)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))
