"""Decoding: prompts in, token ids out, many sequences at a time in fixed slots.

In: jobs (embedded prompts). Out: ids with their log-probabilities, in the order of the jobs. Knows no audio, no
tokenizer and no task. Invariant: what a job yields does not depend on the jobs beside it: a prompt is prefilled by
itself, every step runs all slots whether taken or not, and a slot's keys end at its own position. (Shapes are then
the same in every step, and so on one CPU thread is every bit; measured: with two threads a row's last bit depends
on its place in the batch.)

A finished slot is refilled at the next step (continuous batching).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from model.cache import KeyValueCache, Prefix
from model.decoder import Qwen3Decoder
from model.sampling import Sampling, loop_length, penalise, sample

Finish = Literal["end", "length", "loop"]
GREEDY = Sampling()
KEY_STEP = 128  # the part of the cache that is read grows in such steps


@dataclass(frozen=True)
class Job:
    """One prompt: `embeds_PD` follow `prefix`; `prompt_ids` are all its ids, for the repetition penalty."""

    embeds_PD: Tensor
    prompt_ids: Tensor
    max_new_tokens: int
    prefix: Prefix | None = None
    sampling: Sampling = GREEDY


@dataclass(frozen=True)
class Generated:
    """Decoded ids without the end token. `log_probs` hold one value per id and, when `finish` is "end", the end's."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: Finish


@dataclass
class Slot:
    """A sequence while it is decoded."""

    job: Job
    index: int  # of the job
    position: int  # where the last token goes
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class Generator:
    def __init__(
        self, decoder: Qwen3Decoder, stop_ids: Sequence[int], slots: int, capacity: int, compile: bool = False
    ) -> None:
        weight = decoder.model.embed_tokens.weight
        self.decoder = decoder
        self.stop_ids = frozenset(stop_ids)
        self.cache = KeyValueCache(decoder.config, slots, capacity, weight.device, weight.dtype)
        self.device = weight.device
        self.seen_SV = torch.zeros(slots, decoder.config.vocab, dtype=torch.bool, device=self.device)
        self.penalty_S1 = torch.ones(slots, 1, device=self.device)
        self.compiled = compile
        self._step = torch.compile(self._eager_step, mode="reduce-overhead") if compile else self._eager_step
        if compile:
            # Fixed addresses: without this, CUDA graphs refuse a step that writes into its inputs.
            torch._dynamo.mark_static_address(self.cache.keys)
            torch._dynamo.mark_static_address(self.cache.values)

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job]) -> list[Generated]:
        """Decode all jobs. Raises ValueError when a prompt and its answer do not fit into a slot."""
        for job in jobs:
            if prompt_length(job) + job.max_new_tokens > self.cache.capacity:
                raise ValueError(f"a prompt of {prompt_length(job)} positions does not fit into the cache")
        results: dict[int, Generated] = {}
        waiting = deque(enumerate(jobs))
        slots: list[Slot | None] = [None] * self.cache.slots
        while waiting or any(slots):
            for row, taken in enumerate(slots):
                while taken is None and waiting:
                    index, job = waiting.popleft()
                    taken = self._admit(row, index, job, results)
                slots[row] = taken
            if any(slots):
                self._advance(slots, results)
        return [results[index] for index in range(len(jobs))]

    @torch.inference_mode()
    def prefill(self, embeds_PD: Tensor, prefix: Prefix | None = None, row: int = 0) -> Tensor:
        """Run a prompt into a slot; returns its last layer's states `[P, D]`. Between runs, any slot is free."""
        start = 0
        if prefix is not None:
            start = prefix.length
            self.cache.restore(row, prefix)
        end = start + embeds_PD.shape[0]
        positions_1P = torch.arange(start, end, device=self.device)[None]
        rows_1 = torch.tensor([row], device=self.device)
        return self.decoder.hidden(embeds_PD[None], positions_1P, self.cache, rows_1, keys=end)[0]

    def _admit(self, row: int, index: int, job: Job, results: dict[int, Generated]) -> Slot | None:
        """Prefill a job and choose its first token; None when it ends there."""
        logits_1V = self.decoder.lm_head(self.prefill(job.embeds_PD, job.prefix, row)[-1:]).float()
        self.seen_SV[row] = False
        self.seen_SV[row, job.prompt_ids] = True
        self.penalty_S1[row] = job.sampling.repetition_penalty
        generator = torch.Generator().manual_seed(job.sampling.seed)
        slot = Slot(job, index, prompt_length(job), generator)
        first_1V = penalise(logits_1V, self.seen_SV[row : row + 1], self.penalty_S1[row : row + 1])[0]
        token = sample(first_1V, job.sampling, generator)
        return self._keep(row, slot, token, float(logits_1V[0].log_softmax(dim=-1)[token]), results)

    def _advance(self, slots: list[Slot | None], results: dict[int, Generated]) -> None:
        """One token for every taken slot."""
        tokens = [[slot.ids[-1] if slot else 0] for slot in slots]
        positions = [[slot.position if slot else 0] for slot in slots]
        logits_SV, log_probs_SV, greedy_S = self._run_step(tokens, positions)
        greedy = greedy_S.tolist()
        for row, slot in enumerate(slots):
            if slot is not None:
                slot.position += 1
                sampling = slot.job.sampling
                token = greedy[row]
                if sampling.temperature:
                    token = sample(logits_SV[row], sampling, slot.generator)
                slots[row] = self._keep(row, slot, token, float(log_probs_SV[row, token]), results)

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """One token into every slot at its position; log-probabilities `[S, V]` of what follows. Between runs only."""
        return self._run_step([[t] for t in tokens], [[p] for p in positions])[1]

    def _run_step(self, tokens: list[list[int]], positions: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        keys = self.cache.capacity
        if not self.compiled:  # a compiled step has one shape
            keys = min(keys, -(-(max(p for [p] in positions) + 1) // KEY_STEP) * KEY_STEP)
        ids_S1 = torch.tensor(tokens, device=self.device)
        return self._step(ids_S1, torch.tensor(positions, device=self.device), keys)

    def _eager_step(self, ids_S1: Tensor, positions_S1: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor]:
        logits_SV = self.decoder(self.decoder.embed_tokens(ids_S1), positions_S1, self.cache, None, keys)
        logits_SV = logits_SV[:, 0].float()
        penalised_SV = penalise(logits_SV, self.seen_SV, self.penalty_S1)
        return penalised_SV, logits_SV.log_softmax(dim=-1), penalised_SV.argmax(dim=-1)

    def _keep(
        self, row: int, slot: Slot, token: int, log_prob: float, results: dict[int, Generated]
    ) -> Slot | None:
        """Add a token to its sequence; when that ends it, store the result and free the slot."""
        slot.log_probs.append(log_prob)
        finish: Finish | None = None
        if token in self.stop_ids:
            finish = "end"
        else:
            slot.ids.append(token)
            self.seen_SV[row, token] = True
            surplus = loop_length(slot.ids)
            if surplus:
                finish = "loop"
                del slot.ids[-surplus:], slot.log_probs[-surplus:]
            elif len(slot.ids) >= slot.job.max_new_tokens:
                finish = "length"
        if finish is None:
            return slot
        results[slot.index] = Generated(tuple(slot.ids), tuple(slot.log_probs), finish)
        return None


def prompt_length(job: Job) -> int:
    return job.embeds_PD.shape[0] + (job.prefix.length if job.prefix else 0)
