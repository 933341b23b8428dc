"""What the decoder expects after each of several texts that share a prompt.

In: an embedded prompt, then texts that grow by a token at a time. Out: log-probabilities over the vocabulary.
Knows no audio and no CTC. Invariant: what is expected after a text does not depend on the texts beside it. The keys
and values of the texts asked for last are kept, and no others: a step costs one position per new text, and memory does
not grow with the length of the search.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.beam import Ids
from model.cache import Prefix
from model.generate import Generator


class Continuations:
    @torch.inference_mode()
    def __init__(self, generator: Generator, embeds_PD: Tensor, prefix: Prefix | None = None) -> None:
        """`embeds_PD` follow `prefix`. Between the generator's runs all its slots are ours."""
        self.generator = generator
        states_PD = generator.prefill(embeds_PD, prefix)
        self.length = embeds_PD.shape[0] + (prefix.length if prefix else 0)
        cache = generator.cache
        prompt = cache.snapshot(0, self.length)
        for row in range(1, cache.slots):
            cache.restore(row, prompt)
        first: list[float] = generator.decoder.lm_head(states_PD[-1]).float().log_softmax(dim=-1).tolist()
        self.known: dict[Ids, list[float]] = {(): first}
        self.after: dict[Ids, Prefix] = {(): Prefix(prompt.keys[:, :, :0], prompt.values[:, :, :0])}

    @torch.inference_mode()
    def expect(self, texts: Sequence[Ids]) -> list[list[float]]:
        """Log-probabilities `[V]` of what follows each text.

        Each is among those asked for last, or one of them and a token more; else KeyError.
        """
        slots = self.generator.cache.slots
        fresh = [text for text in texts if text not in self.known]
        for start in range(0, len(fresh), slots):
            part = fresh[start : start + slots]
            self.known.update(zip(part, self._step(part), strict=True))
        self.known = {text: self.known[text] for text in texts}
        self.after = {text: self.after[text] for text in texts}
        return [self.known[text] for text in texts]

    def _step(self, texts: Sequence[Ids]) -> list[list[float]]:
        """At most as many texts as there are slots: each in a slot of its own, behind the prompt."""
        cache = self.generator.cache
        for row, text in enumerate(texts):
            before = self.after[text[:-1]]
            end = self.length + before.length
            cache.keys[:, row, :, self.length : end] = before.keys
            cache.values[:, row, :, self.length : end] = before.values
        idle = cache.slots - len(texts)
        tokens = [text[-1] for text in texts] + [0] * idle
        positions = [self.length + len(text) - 1 for text in texts] + [self.length] * idle
        log_probs_SV = self.generator.step(tokens, positions)
        for row, (text, at) in enumerate(zip(texts, positions, strict=False)):
            self.after[text] = Prefix(
                cache.keys[:, row, :, self.length : at + 1].clone(),
                cache.values[:, row, :, self.length : at + 1].clone(),
            )
        found: list[list[float]] = log_probs_SV[: len(texts)].tolist()
        return found
