"""Windows → training batches.

In: what each window holds. Out: batches of windows of like length, and for each window one task for the decoder.
Knows no model and no tensor.
Invariant: the batches of an epoch are a pure function of (windows, seed, epoch), the tasks of a batch of
(seed, epoch, index), so a resumed run goes on exactly where it stopped, and so do several processes together.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from model import prompts
from model.config import Question
from model.train.cache import Asked, Item
from model.train.manifest import Task
from model.train.windows import QUESTIONS

# Encoder frames: 20 ms each, four to an audio token.
FRAMES_PER_TOKEN = 4


@dataclass(frozen=True)
class Job:
    """What the decoder is to learn of a window: the prompt's text and the answer's."""

    prompt: str
    answer: str


def epoch_batches(
    items: Sequence[Item],
    budget_frames: int,
    seed: str,
    epoch: int,
    repeats: Mapping[str, int],
    longest_frames: int | None = None,
) -> list[list[int]]:
    """Indices into `items`, in batches whose padded size is at most `budget_frames`.

    repeats: how often a window of an origin is seen, when not once. Windows of more than `longest_frames` are left out.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = [
        i
        for i, item in enumerate(items)
        if longest_frames is None or item.frames <= longest_frames
        for _ in range(repeats.get(item.origin, 1))
    ]
    # Lengths are jittered so that the same windows do not meet in every epoch.
    order.sort(key=lambda i: items[i].frames * rng.uniform(0.85, 1.15))
    batches: list[list[int]] = [[]]
    longest = 0
    for i in order:
        longest = max(longest, items[i].frames)
        if batches[-1] and longest * (len(batches[-1]) + 1) > budget_frames:
            batches.append([])
            longest = items[i].frames
        batches[-1].append(i)
    rng.shuffle(batches)
    return [batch for batch in batches if batch]


def draw(
    items: Sequence[Item], mix: Mapping[Task, float], per_window: float, rng: random.Random
) -> list[tuple[int, Asked]]:
    """What is asked, with the index of the window: `per_window` times each on average, at least once in all.

    A window of which nothing in `mix` is known is not asked anything.
    """
    if per_window == 0:
        return []
    count = max(1, round(per_window * len(items)))
    whole, rest = divmod(count, len(items))
    chosen = [*range(len(items))] * whole + rng.sample(range(len(items)), rest)
    drawn = [(i, draw_one(items[i], mix, rng)) for i in sorted(chosen)]
    return [(i, asked) for i, asked in drawn if asked is not None]


def draw_one(item: Item, mix: Mapping[Task, float], rng: random.Random) -> Asked | None:
    """One task by the shares of `mix`, among those whose answer is known; None where none is."""
    known: dict[Task, list[Asked]] = {}
    for asked in known_of(item):
        known.setdefault(asked.task, []).append(asked)
    possible = {task: share for task, share in mix.items() if share > 0 and task in known}
    if not possible:
        return None
    task = rng.choices(list(possible), list(possible.values()))[0]
    return rng.choice(known[task])


def known_of(item: Item) -> tuple[Asked, ...]:
    """Everything that may be asked of a window."""
    if item.asked:
        return item.asked
    found = []
    if item.text is not None:
        found.append(Asked("asr", "", item.text))
    if item.caption is not None:
        found.append(Asked("caption", "", item.caption))
    for q in QUESTIONS:
        if q.name in item.answers:
            found.append(Asked("paralinguistic", q.prompt, item.answers[q.name], q.choices))
    return tuple(found)


def reordered(asked: Asked, rng: random.Random) -> Asked:
    """The same question, its choices in another order; nano's own questions keep theirs, which the engine relies on."""
    if not asked.choices or any(asked.choices == question.choices for question in QUESTIONS):
        return asked
    return replace(asked, choices=tuple(rng.sample(asked.choices, len(asked.choices))))


def job(asked: Asked, frames: int) -> Job:
    """The texts for a window of so many encoder frames."""
    tokens = frames // FRAMES_PER_TOKEN
    if asked.task == "asr":
        prompt = prompts.user_prompt(tokens, asked.prompt, prompts.ASR_SYSTEM)
        return Job(prompt, target_text(asked.answer))
    if asked.task == "caption":
        return Job(prompts.user_prompt(tokens, asked.prompt or prompts.CAPTION_REQUEST), asked.answer)
    if asked.choices:
        prompt = prompts.question(tokens, asked.prompt, asked.choices)
        return Job(prompt, letter(asked.choices, asked.answer))
    return Job(prompts.user_prompt(tokens, asked.prompt), asked.answer)


def letter(choices: Sequence[str], answer: str) -> str:
    """A for the first choice, B for the second, …"""
    return chr(ord("A") + choices.index(answer))


def target_text(text: str) -> str:
    """Transcripts begin with a space, so that a word has the same tokens wherever it stands."""
    return f" {text}" if text else ""


def corpus(transcripts: Sequence[str], others: Sequence[str], questions: Sequence[Question]) -> Iterator[str]:
    """What a tokenizer is trained on: the texts, and the prompts' own words often enough to be merged."""
    yield from (target_text(text) for text in transcripts)
    yield from others
    fixed = [prompts.ASR_SYSTEM, prompts.CAPTION_REQUEST, "system\n", "user\n", "assistant\n", "\n\n"]
    fixed += [
        "\n".join([q.prompt, *(f"{chr(65 + i)}. {c}" for i, c in enumerate(q.choices))]) for q in questions
    ]
    for _ in range(max(1, len(transcripts) // 8)):
        yield from fixed
