"""Questions that a benchmark brings along, asked of an engine: any text, any number of choices, any length of audio.

In: an engine; audio and a question. Out: what the decoder writes, greedily, and how likely each choice's letter is as
its first token. Knows no benchmark. Invariants: the prompt is the released model's (arXiv 2602.13954: audio first, then
the question, each choice on a line as `A. …`); a text from outside never yields a special token.

The service itself asks only the questions of its checkpoint, and reads letters; benchmarks also score written answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model import device, prompts
from model.engine import Engine
from model.evaluate.asr import Audio
from model.evaluate.ears import embeddings
from model.features import n_audio_tokens
from model.generate import KEY_STEP, Generated, Generator, Job
from model.sampling import Sampling


@dataclass(frozen=True)
class Asked:
    """`text` may be empty: the audio is then all that the user says."""

    audio: Audio
    text: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """`letters`: the probability of each choice's letter, among them; empty without choices."""

    text: str
    letters: tuple[float, ...]
    cut: bool  # at the limit of tokens


def ask(engine: Engine, questions: Iterable[Asked], most_tokens: int | None = None) -> Iterator[Reply]:
    """Replies in order, as many at a time as the engine has slots.

    Raises ValueError for a question that spells a special token or has more choices than there are letters.
    """
    remaining = iter(questions)
    while batch := list(itertools.islice(remaining, engine.placement.slots)):
        with device.one_thread(engine.placement), torch.inference_mode():
            yield from _replies(engine, batch, most_tokens or engine.config.decoding.max_new_tokens)


def _replies(engine: Engine, batch: list[Asked], most_tokens: int) -> list[Reply]:
    decoding = engine.config.decoding
    sampling = Sampling(repetition_penalty=decoding.repetition_penalty)
    ids = [_prompt(engine, one) for one in batch]
    embeds = [_embed(engine, one, prompt_P) for one, prompt_P in zip(batch, ids, strict=True)]
    letters = [_letters(engine, one, embeds_PO) for one, embeds_PO in zip(batch, embeds, strict=True)]
    jobs = [Job(e, p, most_tokens, None, sampling) for e, p in zip(embeds, ids, strict=True)]
    longest = max(job.prompt_length for job in jobs) + most_tokens
    tokens = engine.config.tokens
    generator = Generator(
        engine.model.decoder,
        (tokens.im_end, tokens.endoftext),
        len(jobs),
        -(-longest // KEY_STEP) * KEY_STEP,
        together=engine.placement.windows > 1,
    )
    return [
        Reply(_text(engine, one), found, one.finish == "length")
        for one, found in zip(generator.run(jobs), letters, strict=True)
    ]


def _prompt(engine: Engine, asked: Asked) -> Tensor:
    """Ids of the whole prompt, a placeholder for each 80 ms of audio."""
    for text in (asked.text, *asked.choices):
        engine.tokenizer.encode_plain(text)
    tokens = n_audio_tokens(len(asked.audio))
    text = prompts.question(tokens, asked.text, asked.choices)
    return torch.tensor(prompts.encode(engine.tokenizer, text), device=engine.placement.device)


def _embed(engine: Engine, asked: Asked, prompt_P: Tensor) -> Tensor:
    audio_NO = embeddings(engine, asked.audio)
    tokens_1 = torch.tensor([audio_NO.shape[0]], device=prompt_P.device)
    return engine.model.embed(prompt_P[None], audio_NO[None], tokens_1)[0]


def _letters(engine: Engine, asked: Asked, embeds_PO: Tensor) -> tuple[float, ...]:
    if not asked.choices:
        return ()
    ids = engine.tokenizer.letter_ids(len(asked.choices))
    positions_P = torch.arange(embeds_PO.shape[0], device=embeds_PO.device)
    states_PO, _ = engine.model.decoder.extend(embeds_PO, positions_P, None, None)
    chances = engine.model.decoder.lm_head(states_PO[-1]).float()[ids].softmax(dim=-1)
    return tuple(float(chance) for chance in chances)


def _text(engine: Engine, generated: Generated) -> str:
    """The reply with its line breaks (an instruction may be about them)."""
    return engine.tokenizer.decode(generated.ids).replace("�", "").strip()
