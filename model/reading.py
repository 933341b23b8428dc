"""What the decoder makes of texts that are proposed to it, all after one prompt.

In: the keys and values of a prompt, and texts. Out: the log-probability of each text, and of its end.
Knows no audio and no CTC. Invariant: a text's figure does not depend on the texts beside it (up to rounding). Texts
that share a beginning share its cost: they are read as a tree, and what all of them share is read once for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model import tree
from model.cache import Prefix
from model.decoder import Qwen3Decoder

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """log P(text | prompt), and how likely the text is to end there."""

    log_prob: float
    end_log_prob: float
    likes_to_end: bool  # nothing is likelier than the end


class Reading:
    """The texts that are read must go on from what the earlier ones had in common (`settle`)."""

    def __init__(self, decoder: Qwen3Decoder, past: Prefix, state_D: Tensor, ends: Sequence[int]) -> None:
        """`state_D` is the decoder's state at the last position of `past`."""
        self.decoder = decoder
        self.ends = list(ends)
        self.settled: Ids = ()
        self._past = past
        self._log_prob = 0.0  # of what is settled
        self._next_V = self._expect(state_D[None])[0]

    @torch.inference_mode()
    def read(self, texts: Sequence[Ids]) -> list[Read]:
        """One pass over all of them. ValueError for a text that leaves what is settled."""
        start = len(self.settled)
        nodes: dict[Ids, int] = {}
        for text in texts:
            if text[:start] != self.settled:
                raise ValueError("a text leaves what was settled")
            for end in range(start + 1, len(text) + 1):
                nodes.setdefault(text[:end], len(nodes))
        if not nodes:
            return [self._judge(self._log_prob, self._next_V) for _ in texts]
        ids_L = torch.tensor([path[-1] for path in nodes], device=self._next_V.device)
        parents = [nodes.get(path[:-1], tree.ROOT) for path in nodes]
        states_LD, new = tree.grow(self.decoder, self.decoder.embed_tokens(ids_L), parents, self._past)
        expected_LV = self._expect(states_LD)
        before_L = torch.tensor(parents, device=ids_L.device)
        chosen_L = torch.where(
            before_L == tree.ROOT, self._next_V[ids_L], expected_LV[before_L.clamp(min=0), ids_L]
        ).tolist()
        totals: list[float] = []
        for parent, log_prob in zip(parents, chosen_L, strict=True):
            totals.append((self._log_prob if parent == tree.ROOT else totals[parent]) + log_prob)
        found = [
            self._judge(totals[nodes[text]], expected_LV[nodes[text]])
            if text in nodes
            else self._judge(self._log_prob, self._next_V)
            for text in texts
        ]
        common = _common(texts)
        if len(common) > start:
            path = [nodes[common[:end]] for end in range(start + 1, len(common) + 1)]
            self._past = self._past.then(new.at(path))
            self._log_prob = totals[path[-1]]
            self._next_V = expected_LV[path[-1]]
            self.settled = common
        return found

    def _expect(self, states_LD: Tensor) -> Tensor:
        """Log-probabilities `[L, V]` of what follows each state."""
        logits: Tensor = self.decoder.lm_head(states_LD)
        return logits.float().log_softmax(dim=-1)

    def _judge(self, log_prob: float, next_V: Tensor) -> Read:
        end = float(next_V[self.ends].max())
        return Read(log_prob, end, end >= float(next_V.max()))


def _common(texts: Sequence[Ids]) -> Ids:
    """The longest beginning that all texts share."""
    first, last = min(texts), max(texts)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]
