"""Cached windows → training batches.

In: shards. Out: batches of windows of like length, and for each window one task for the decoder. Knows no model.
Invariant: the batches of an epoch are a pure function of (windows, seed, epoch), the tasks of a batch of
(seed, epoch, index), so a resumed run goes on exactly where it stopped.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from model import prompts
from model.train.cache import Item, read_shard
from model.train.windows import QUESTIONS

# Encoder frames: 20 ms each, four to an audio token.
FRAMES_PER_TOKEN = 4
# How often a window of an origin is seen per epoch.
REPEATS: Mapping[str, int] = {"asterisk": 2}

Task = Literal["transcript", "caption", "question"]
TASK_SHARES: Mapping[Task, float] = {"transcript": 0.65, "question": 0.23, "caption": 0.12}


@dataclass(frozen=True)
class Example:
    """A window with its encoder states `[frames, D]`."""

    item: Item
    states_LD: Tensor


@dataclass(frozen=True)
class Job:
    """What the decoder is to learn of a window: the prompt's text and the answer's."""

    prompt: str
    answer: str


def load_examples(shards: Sequence[Path]) -> list[Example]:
    """All windows of the shards, in memory."""
    return [Example(item, states) for path in shards for item, states in read_shard(path)]


def epoch_batches(examples: Sequence[Example], budget_frames: int, seed: int, epoch: int) -> list[list[int]]:
    """Indices into `examples`, in batches whose padded size is at most `budget_frames`."""
    rng = random.Random(f"{seed}/{epoch}")
    order = [i for i, example in enumerate(examples) for _ in range(REPEATS.get(example.item.origin, 1))]
    # Lengths are jittered so that the same windows do not meet in every epoch.
    order.sort(key=lambda i: examples[i].item.frames * rng.uniform(0.85, 1.15))
    batches: list[list[int]] = [[]]
    longest = 0
    for i in order:
        longest = max(longest, examples[i].item.frames)
        if batches[-1] and longest * (len(batches[-1]) + 1) > budget_frames:
            batches.append([])
            longest = examples[i].item.frames
        batches[-1].append(i)
    rng.shuffle(batches)
    return [batch for batch in batches if batch]


def draw_jobs(
    items: Sequence[Item], per_window: float, seed: int, epoch: int, index: int
) -> list[tuple[int, Job]]:
    """Tasks with the index of their window: `per_window` of them on average, at least one in all."""
    rng = random.Random(f"{seed}/{epoch}/{index}")
    count = max(1, round(per_window * len(items)))
    whole, rest = divmod(count, len(items))
    chosen = [*range(len(items))] * whole + rng.sample(range(len(items)), rest)
    return [(i, draw_job(items[i], rng)) for i in sorted(chosen)]


def draw_job(item: Item, rng: random.Random) -> Job:
    """A transcript, a caption or a question by TASK_SHARES, among those whose answer is known."""
    possible = dict(TASK_SHARES)
    if item.text is None:
        del possible["transcript"]
    if item.caption is None:
        del possible["caption"]
    if not item.answers:
        del possible["question"]
    task = rng.choices(list(possible), list(possible.values()))[0]
    tokens = item.frames // FRAMES_PER_TOKEN
    if task == "transcript":
        return Job(prompts.asr(tokens), target_text(item.text or ""))
    if task == "caption":
        return Job(prompts.caption(tokens), item.caption or "")
    question = rng.choice([q for q in QUESTIONS if q.name in item.answers])
    letter = chr(ord("A") + question.choices.index(item.answers[question.name]))
    return Job(prompts.question(tokens, question.prompt, question.choices), letter)


def target_text(text: str) -> str:
    """Transcripts begin with a space, so that a word has the same tokens wherever it stands."""
    return f" {text}" if text else ""


def corpus(sentences: Sequence[str]) -> Iterator[str]:
    """What the tokenizer is trained on: the sentences, and the prompts' own words often enough to be merged."""
    yield from (target_text(sentence) for sentence in sentences)
    fixed = [prompts.ASR_SYSTEM, prompts.CAPTION_REQUEST, "system\n", "user\n", "assistant\n", "\n\n"]
    fixed += [
        "\n".join([q.prompt, *(f"{chr(65 + i)}. {c}" for i, c in enumerate(q.choices))]) for q in QUESTIONS
    ]
    for _ in range(max(1, len(sentences) // 8)):
        yield from fixed
