"""What the decoder makes of texts that are proposed to it, all after one prompt.

In: the keys and values of a prompt, and texts. Out: the log-probability of each text, and of its end.
Knows no audio and no CTC. Invariant: a text's figure does not depend on the texts beside it (up to rounding). Texts
that share a beginning share its cost: they are read as a tree, and what has been read is not read again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model import tree
from model.cache import Prefix
from model.decoder import Qwen3Decoder

Ids = tuple[int, ...]


class NotFinite(ArithmeticError):
    """The model yields no finite numbers."""


@dataclass(frozen=True)
class Read:
    """log P(text | prompt), and how likely the text is to end there."""

    log_prob: float
    end_log_prob: float
    likes_to_end: bool  # nothing is likelier than the end


@dataclass(frozen=True)
class Node:
    """A text that has been read: its place in the tree, log P(text | prompt), and what follows it, `[V]`."""

    place: int
    log_prob: float
    next_V: Tensor


class Reading:
    """The texts that are read must go on from what the earlier ones had in common (`settled`)."""

    def __init__(self, decoder: Qwen3Decoder, past: Prefix, state_D: Tensor, ends: Sequence[int]) -> None:
        """`state_D` is the decoder's state at the last position of `past`."""
        self.decoder = decoder
        self.ends = list(ends)
        self.settled: Ids = ()
        self._tree = tree.Tree.after(past)
        root = Node(tree.ROOT, 0.0, self._expect(state_D[None])[0])
        self._nodes: dict[Ids, Node] = {(): root}

    @torch.inference_mode()
    def read(self, texts: Sequence[Ids]) -> list[Read]:
        """One pass over what is new in them. ValueError for a text that leaves what is settled."""
        start = len(self.settled)
        if any(text[:start] != self.settled for text in texts):
            raise ValueError("a text leaves what was settled")
        paths = dict.fromkeys(text[:end] for text in texts for end in range(start + 1, len(text) + 1))
        if new := [path for path in paths if path not in self._nodes]:
            self._grow(new)
        found = [self._judge(self._nodes[text]) for text in texts]
        self._forget(paths, _common(texts))
        return found

    def _grow(self, new: Sequence[Ids]) -> None:
        """Read texts whose beginnings are known or come before them."""
        first = len(self._tree.depths)
        places = {path: first + i for i, path in enumerate(new)}
        parents = [places[path[:-1]] if path[:-1] in places else self._nodes[path[:-1]].place for path in new]
        ids_L = torch.tensor([path[-1] for path in new], device=self._tree.read.keys.device)
        embeds_LD = self.decoder.embed_tokens(ids_L)
        states_LD, self._tree = tree.grow(self.decoder, embeds_LD, parents, self._tree)
        next_LV = self._expect(states_LD)
        before_LV = torch.stack(
            [
                next_LV[places[path[:-1]] - first] if path[:-1] in places else self._nodes[path[:-1]].next_V
                for path in new
            ]
        )
        chosen = before_LV.gather(1, ids_L[:, None])[:, 0].tolist()
        for index, (path, log_prob) in enumerate(zip(new, chosen, strict=True)):
            total = self._nodes[path[:-1]].log_prob + log_prob
            self._nodes[path] = Node(first + index, total, next_LV[index])

    def _forget(self, wanted: Iterable[Ids], common: Ids) -> None:
        """Keep what these texts are made of; what all of them share is settled."""
        start = len(self.settled)
        path = [self._nodes[common[:end]].place for end in range(start + 1, len(common) + 1)]
        rest = [text for text in wanted if len(text) > len(common)]
        self._tree = self._tree.settle(path, [self._nodes[text].place for text in rest])
        root = self._nodes[common]
        nodes = {common: Node(tree.ROOT, root.log_prob, root.next_V)}
        for place, text in enumerate(rest):
            nodes[text] = Node(place, self._nodes[text].log_prob, self._nodes[text].next_V)
        self._nodes = nodes
        self.settled = common

    def _expect(self, states_LD: Tensor) -> Tensor:
        """Log-probabilities `[L, V]` of what follows each state."""
        logits: Tensor = self.decoder.lm_head(states_LD)
        return logits.float().log_softmax(dim=-1)

    def _judge(self, node: Node) -> Read:
        end = float(node.next_V[self.ends].max())
        if math.isnan(node.log_prob + end):
            raise NotFinite("decoder")
        return Read(node.log_prob, end, end >= float(node.next_V.max()))


def _common(texts: Sequence[Ids]) -> Ids:
    """The longest beginning that all texts share."""
    first, last = min(texts), max(texts)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]
