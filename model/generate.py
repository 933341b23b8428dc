"""Decoding: prompts in, token ids out, many sequences at a time in fixed slots.

In: jobs (embedded prompts). Out: ids with their log-probabilities, as jobs end, or all in the order of the jobs. Knows
no audio, no tokenizer and no task. Invariant: what a job yields does not depend on the jobs beside it: every step runs
all slots whether taken or not, and a slot's keys end at its own position. (Shapes are then the same in every step, and
so on one CPU thread is every bit; measured: with two threads a row's last bit depends on its place in the batch. On a
CPU a prompt is prefilled by itself for the same reason.)

A finished slot is refilled at the next step (continuous batching).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from model.cache import KeyValueCache, Prefix
from model.decoder import Qwen3Decoder
from model.sampling import Sampling, loop_length, penalise, sample

Finish = Literal["end", "length", "loop"]
GREEDY = Sampling()
KEY_STEP = 128  # the part of the cache that is read grows in such steps
FIRST_KEY_BUCKET = 256  # compiled, it doubles from here: few graphs, and short texts read little
PREFILL_STEP = 32  # prompts that are prefilled together are padded to a multiple of this


@dataclass(frozen=True)
class Job:
    """One prompt: `embeds_PD` follow `prefix`; `prompt_ids` are all its ids, for the repetition penalty.

    `on_token` is called with every id as it is chosen, the end included.
    """

    embeds_PD: Tensor
    prompt_ids: Tensor
    max_new_tokens: int
    prefix: Prefix | None = None
    sampling: Sampling = GREEDY
    on_token: Callable[[int], None] | None = None

    @property
    def prompt_length(self) -> int:
        return self.embeds_PD.shape[0] + (self.prefix.length if self.prefix else 0)


@dataclass(frozen=True)
class Generated:
    """Decoded ids without the end token. `log_probs` hold one value per id and, when `finish` is "end", the end's."""

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish: Finish


@dataclass
class Slot:
    """A sequence while it is decoded. `key` is its caller's name for it."""

    job: Job
    key: Any
    position: int  # where the last token goes
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


Done = list[tuple[Any, Generated]]


class Generator:
    def __init__(
        self,
        decoder: Qwen3Decoder,
        stop_ids: Sequence[int],
        slots: int,
        capacity: int,
        compile: bool = False,
        together: bool = False,
    ) -> None:
        """`together`: prompts of like length are prefilled in one pass."""
        weight = decoder.model.embed_tokens.weight
        self.decoder = decoder
        self.stop_ids = frozenset(stop_ids)
        self.cache = KeyValueCache(decoder.config, slots, capacity, weight.device, weight.dtype)
        self.device = weight.device
        self.together = together
        self.slots: list[Slot | None] = [None] * slots
        self.seen_SV = torch.zeros(slots, decoder.config.vocab, dtype=torch.bool, device=self.device)
        self.penalty_S1 = torch.ones(slots, 1, device=self.device)
        self.compiled = compile
        doubled = (FIRST_KEY_BUCKET << n for n in range(capacity.bit_length()))
        self._key_buckets = [*(keys for keys in doubled if keys < capacity), capacity]
        self._step: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]] = self._eager_step
        if compile:
            # CUDA graphs, where there is CUDA.
            mode = "reduce-overhead" if weight.is_cuda else "default"
            self._step = torch.compile(self._eager_step, mode=mode, fullgraph=True, dynamic=False)
            # Fixed addresses: without this, CUDA graphs refuse a step that writes into its inputs, or copy them.
            for buffer in (self.cache.keys, self.cache.values, self.seen_SV, self.penalty_S1):
                torch._dynamo.mark_static_address(buffer)

    @property
    def free(self) -> int:
        """Slots that nothing is decoded in."""
        return sum(slot is None for slot in self.slots)

    def fits(self, job: Job) -> bool:
        """Whether a prompt and its longest answer fit into a slot."""
        return job.prompt_length + job.max_new_tokens <= self.cache.capacity

    def warm_up(self) -> None:
        """Run a step of every shape there is, so that none is compiled later."""
        for keys in self._key_buckets:
            self._run_step([0] * len(self.slots), [keys - 1] * len(self.slots))

    def run(self, jobs: Sequence[Job]) -> list[Generated]:
        """Decode all jobs. Raises ValueError when a prompt and its answer do not fit into a slot."""
        results: dict[int, Generated] = {}
        waiting = list(enumerate(jobs))[::-1]
        while waiting or self.free < len(self.slots):
            batch = [waiting.pop() for _ in range(min(self.free, len(waiting)))]
            results |= dict(self.admit(batch))
            results |= dict(self.step())
        return [results[index] for index in range(len(jobs))]

    @torch.inference_mode()
    def admit(self, jobs: Sequence[tuple[Any, Job]]) -> Done:
        """Begin jobs, each under a key of the caller's; those that end at their first token are done.

        Raises ValueError, and begins none, when there are more than `free` or one does not fit into a slot.
        """
        for _, job in jobs:
            if not self.fits(job):
                raise ValueError(f"a prompt of {job.prompt_length} positions does not fit into the cache")
        rows = [row for row, slot in enumerate(self.slots) if slot is None][: len(jobs)]
        if len(rows) < len(jobs):
            raise ValueError(f"{len(jobs)} jobs for {len(rows)} free slots")
        done: Done = []
        for batch in self._prefill_batches(list(zip(rows, jobs, strict=True))):
            states_BD = self._prefill([row for row, _ in batch], [job for _, (_, job) in batch])
            logits_BV = self.decoder.lm_head(states_BD).float()
            for (row, (key, job)), logits_V in zip(batch, logits_BV, strict=True):
                done += self._begin(row, key, job, logits_V)
        return done

    @torch.inference_mode()
    def step(self) -> Done:
        """One token for every slot that is taken; what ended with it."""
        if self.free == len(self.slots):
            return []
        logits_SV, log_probs_SV, greedy_S = self._run_step(
            [slot.ids[-1] if slot else 0 for slot in self.slots],
            [slot.position if slot else 0 for slot in self.slots],
        )
        tokens = greedy_S.tolist()
        for row, slot in enumerate(self.slots):
            if slot is not None and slot.job.sampling.temperature:
                tokens[row] = sample(logits_SV[row], slot.job.sampling, slot.generator)
        chosen_S = torch.tensor(tokens, device=self.device)
        log_probs = log_probs_SV.gather(1, chosen_S[:, None])[:, 0].tolist()
        done: Done = []
        for row, slot in enumerate(self.slots):
            if slot is not None:
                slot.position += 1
                done += self._keep(row, slot, tokens[row], log_probs[row])
        return done

    def abandon(self) -> None:
        """Forget every job under way."""
        self.slots = [None] * len(self.slots)

    def _prefill_batches(
        self, jobs: list[tuple[int, tuple[Any, Job]]]
    ) -> Iterator[list[tuple[int, tuple[Any, Job]]]]:
        """Prompts of like length, or each by itself."""
        if not self.together:
            yield from ([job] for job in jobs)
            return
        buckets: dict[int, list[tuple[int, tuple[Any, Job]]]] = {}
        for row, (key, job) in jobs:
            buckets.setdefault(_up(job.embeds_PD.shape[0], PREFILL_STEP), []).append((row, (key, job)))
        yield from buckets.values()

    def _prefill(self, rows: Sequence[int], jobs: Sequence[Job]) -> Tensor:
        """Run prompts into slots; the last layer's states `[B, D]` at their ends."""
        lengths = [job.embeds_PD.shape[0] for job in jobs]
        starts = [job.prompt_length - length for job, length in zip(jobs, lengths, strict=True)]
        padded = max(lengths)
        if len(jobs) > 1:
            padded = min(_up(padded, PREFILL_STEP), self.cache.capacity - max(starts))
        embeds_BPD = jobs[0].embeds_PD.new_zeros(len(jobs), padded, jobs[0].embeds_PD.shape[1])
        for index, (row, job) in enumerate(zip(rows, jobs, strict=True)):
            embeds_BPD[index, : lengths[index]] = job.embeds_PD
            if job.prefix is not None:
                self.cache.restore(row, job.prefix)
        starts_B1 = torch.tensor(starts, device=self.device)[:, None]
        # Past its end a prompt's row holds padding, which is overwritten before any position may look at it.
        positions_BP = starts_B1 + torch.arange(padded, device=self.device)
        rows_B = torch.tensor(rows, device=self.device)
        keys = max(starts) + padded
        states_BPD = self.decoder.hidden(embeds_BPD, positions_BP, self.cache, rows_B, keys)
        ends_B = torch.tensor(lengths, device=self.device) - 1
        return states_BPD[torch.arange(len(jobs), device=self.device), ends_B]

    def _begin(self, row: int, key: Any, job: Job, logits_V: Tensor) -> Done:
        """Choose a job's first token."""
        self.seen_SV[row] = False
        self.seen_SV[row, job.prompt_ids] = True
        self.penalty_S1[row] = job.sampling.repetition_penalty
        generator = torch.Generator().manual_seed(job.sampling.seed)
        slot = Slot(job, key, job.prompt_length, generator)
        here = slice(row, row + 1)
        first_V = penalise(logits_V[None], self.seen_SV[here], self.penalty_S1[here])[0]
        token = sample(first_V, job.sampling, generator)
        return self._keep(row, slot, token, float(logits_V.log_softmax(dim=-1)[token]))

    @torch.inference_mode()
    def _run_step(self, tokens: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        keys = max(positions) + 1
        if self.compiled:
            keys = next(bucket for bucket in self._key_buckets if bucket >= keys)
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        else:
            keys = min(_up(keys, KEY_STEP), self.cache.capacity)
        ids_S1 = torch.tensor(tokens, device=self.device)[:, None]
        return self._step(ids_S1, torch.tensor(positions, device=self.device)[:, None], keys)

    def _eager_step(self, ids_S1: Tensor, positions_S1: Tensor, keys: int) -> tuple[Tensor, Tensor, Tensor]:
        logits_SV = self.decoder(self.decoder.embed_tokens(ids_S1), positions_S1, self.cache, None, keys)
        logits_SV = logits_SV[:, 0].float()
        penalised_SV = penalise(logits_SV, self.seen_SV, self.penalty_S1)
        return penalised_SV, logits_SV.log_softmax(dim=-1), penalised_SV.argmax(dim=-1)

    def _keep(self, row: int, slot: Slot, token: int, log_prob: float) -> Done:
        """Add a token to its sequence; when that ends it, free the slot and give the result."""
        slot.log_probs.append(log_prob)
        if slot.job.on_token is not None:
            slot.job.on_token(token)
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
        self.slots[row] = slot if finish is None else None
        if finish is None:
            return []
        return [(slot.key, Generated(tuple(slot.ids), tuple(slot.log_probs), finish))]


def _up(length: int, step: int) -> int:
    return -(-length // step) * step
