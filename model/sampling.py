"""From logits to one token, and when to stop.

In: logits `[V]` or `[S, V]`, the ids seen so far. Out: a token id; whether a text runs in a loop.
Knows no model. Invariant: a row's choice depends on that row, its own history and its own seed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LOOP_TOKENS = 24  # a tail this long of nothing but copies of one n-gram is a loop
LOOP_COPIES = 3
LONGEST_NGRAM = 64


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; top_k 0 and top_p 1 switch those filters off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0


def penalise(logits_SV: Tensor, seen_SV: Tensor, penalty_S1: Tensor) -> Tensor:
    """Repetition penalty (CTRL): seen tokens' logits divided by the penalty, or multiplied when negative."""
    lowered = torch.where(logits_SV > 0, logits_SV / penalty_S1, logits_SV * penalty_S1)
    return torch.where(seen_SV, lowered, logits_SV)


def sample(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token by temperature, then top-k, then top-p (the order of transformers)."""
    if sampling.temperature == 0.0 or bool(logits_V.isnan().any()):  # the answer says then what is not finite
        return int(logits_V.argmax())
    scores_V = logits_V.float().cpu() / sampling.temperature
    if 0 < sampling.top_k < scores_V.shape[0]:
        smallest = scores_V.topk(sampling.top_k).values[-1]
        scores_V = scores_V.masked_fill(scores_V < smallest, -torch.inf)
    if sampling.top_p < 1.0:
        ordered, index = scores_V.softmax(dim=-1).sort(descending=True)
        # The token that crosses top_p still belongs to the nucleus, so at least one is always left.
        outside = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        scores_V = scores_V.masked_fill(outside.gather(0, index.argsort()), -torch.inf)
    return int(torch.multinomial(scores_V.softmax(dim=-1), 1, generator=generator))


def loop_length(ids: Sequence[int]) -> int:
    """How many tokens at the end are repeated copies (all but the first); 0 when the text is in no loop."""
    for n in range(1, min(LONGEST_NGRAM, len(ids) // LOOP_COPIES) + 1):
        copies = max(LOOP_COPIES, -(-LOOP_TOKENS // n))
        if n * copies > len(ids):
            continue
        tail = ids[-n * copies :]
        if all(tail[i] == tail[i - n] for i in range(n, len(tail))):
            return n * (copies - 1)
    return 0
