"""What a step's forward pass takes: tensors on the CPU, made while the step before is still under way.

In: windows with their states, what the decoder is asked of them, the tokenizer. Out: `Inputs`. Knows no model and no
loss. Invariant: a pure function of its arguments; padding is marked as such wherever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from model.features import SILENCE_VALUE
from model.tokenizer import Tokenizer
from model.train.batches import FRAMES_PER_TOKEN, Job, target_text
from model.train.cache import Live
from model.train.dataset import Example
from model.train.probes import wanted

FRAMES_PER_MASK = 75  # 1.5 s
LONGEST_MASK_FRAMES = 12
MASKED_CHANNELS = 0.1


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    `jobs` name their window by its index in `examples`; `seeds` decide what is masked of each example, None: nothing.
    A part that does not `count` stands in where there are fewer windows than processes: it weighs nothing.
    """

    examples: Sequence[Example]
    jobs: Sequence[tuple[int, Job]]
    seeds: Sequence[int] | None = None
    counts: bool = True


@dataclass(frozen=True)
class Heard:
    """The windows' states `[B, rows, D]` as they are stored (rows of log-mel for "all"), and how many frames are real.

    `keep_BL`, `keep_BD`: factors per frame and per channel, 0 or 1; None: nothing is blanked out.
    """

    states: Tensor
    frames: list[int]
    keep_BL: Tensor | None = None
    keep_BD: Tensor | None = None


@dataclass(frozen=True)
class Asked:
    """The decoder's rows: `ids_BP` (prompt, answer, end; padded on the right) about the windows `windows_B`.

    Loss counts at the positions `at_T` of the rows laid end to end, where `answer_T` comes next and weighs `weight_T`.
    """

    ids_BP: Tensor
    windows_B: Tensor
    at_T: Tensor
    answer_T: Tensor
    weight_T: Tensor


@dataclass(frozen=True)
class Inputs:
    """`targets`: the tokens of each window's words, None where they are not known; `wanted_QB`: see `probes.wanted`."""

    heard: Heard
    targets: list[list[int] | None]
    wanted_QB: Tensor
    asked: Asked | None
    counts: bool


@dataclass(frozen=True)
class Preparer:
    """What a batch becomes tensors with. `end` is the token that ends an answer, `channels` the encoder's width.

    pinned: states lie in memory that a GPU copies from on its own.
    """

    tokenizer: Tokenizer
    live: Live
    end: int
    channels: int
    pinned: bool = False

    def __call__(self, batch: Batch) -> Inputs:
        heard = stacked(batch.examples, self.live)
        if self.pinned:
            heard = replace(heard, states=heard.states.pin_memory())
        if batch.seeds is not None:
            keep_BL, keep_BD = masks(heard.frames, self.channels, batch.seeds)
            heard = replace(heard, keep_BL=keep_BL, keep_BD=keep_BD)
        texts = [example.item.text for example in batch.examples]
        return Inputs(
            heard,
            [None if text is None else self.tokenizer.encode(target_text(text)) for text in texts],
            wanted([example.item.answers for example in batch.examples]),
            asked_rows(batch.jobs, self.tokenizer, self.end) if batch.jobs else None,
            batch.counts,
        )


def stacked(examples: Sequence[Example], live: Live) -> Heard:
    """States of several windows in one tensor, nothing blanked out."""
    frames = [example.item.frames for example in examples]
    states = [example.states for example in examples]
    rows, fill = (2 * max(frames), SILENCE_VALUE) if live == "all" else (max(frames), 0.0)
    out = torch.full((len(states), rows, states[0].shape[1]), fill, dtype=states[0].dtype)
    for row, one in zip(out, states, strict=True):
        row[: len(one)] = one
    return Heard(out, frames)


def masks(frames: Sequence[int], channels: int, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """SpecAugment's factors per frame `[B, L]` and per channel `[B, D]`: 0 or 1.

    0 are short spans of time, a fifth of the clip at most, and a random tenth of the channels.
    """
    drawn = [_mask(count, channels, seed) for count, seed in zip(frames, seeds, strict=True)]
    times = [F.pad(keep_L, (0, max(frames) - len(keep_L))) for keep_L, _ in drawn]
    return torch.stack(times), torch.stack([keep_D for _, keep_D in drawn])


def _mask(frames: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keep_D = (torch.rand(channels, generator=generator) >= MASKED_CHANNELS).float()
    keep_L = torch.ones(frames)
    masks = max(2, frames // FRAMES_PER_MASK)
    longest = min(LONGEST_MASK_FRAMES, frames // (5 * masks))
    if longest > 0:
        widths = torch.randint(0, longest + 1, (masks,), generator=generator).tolist()
        starts = torch.rand(masks, generator=generator).tolist()
        for width, start in zip(widths, starts, strict=True):
            first = int(start * (frames - width + 1))
            keep_L[first : first + width] = 0.0
    return keep_L, keep_D


def asked_rows(jobs: Sequence[tuple[int, Job]], tokenizer: Tokenizer, end: int) -> Asked:
    """Prompts and answers as rows of tokens. An answer's weights sum to 1: a letter counts as a whole transcript does;
    by the token it would not be learned."""
    rows = [(tokenizer.encode(job.prompt), [*tokenizer.encode(job.answer), end]) for _, job in jobs]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    # Padding on the right: causal attention never looks at it.
    ids_BP = torch.full((len(rows), longest), end)
    at: list[int] = []
    for b, (prompt, answer) in enumerate(rows):
        ids_BP[b, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        first = b * longest + len(prompt) - 1
        at += range(first, first + len(answer))
    return Asked(
        ids_BP,
        torch.tensor([window for window, _ in jobs]),
        torch.tensor(at),
        torch.tensor([token for _, answer in rows for token in answer]),
        torch.cat([torch.full((len(answer),), 1.0 / len(answer)) for _, answer in rows]),
    )


def tokens_of(frames: Sequence[int]) -> list[int]:
    """Audio tokens of so many encoder frames."""
    return [count // FRAMES_PER_TOKEN for count in frames]
