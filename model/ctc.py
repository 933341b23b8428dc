"""What the CTC head tells: is there speech, which text, when was each word.

In: log-probabilities `[N, V + 1]` of one clip, one row per 80 ms, blank last. Out: ids, evidence, word times.
Knows no decoder. Invariant: CTC emits at most one token per 80 ms of audio, so unlike the decoder it cannot write what
has no place in the audio.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torchaudio.functional
from torch import Tensor

from model.answers import Word
from model.tokenizer import Tokenizer, clean

TOKEN_MS = 80
EVIDENCE_FRAMES = 3  # 240 ms: no shorter word is worth a transcript, and one stray frame is no speech
# Chosen against an independent aligner on Asterisk prompts that were trained on, where 240 to 400 ms are as good; the
# shortest of these, because the strings of digits (model/evaluate/digits.py) end ever later with more.
EARLIER_MS = 40
LINGER_MS = 240
SPACE = "Ġ"  # how byte-level BPE writes a leading space


@dataclass(frozen=True)
class Span:
    """Where a token lies, in audio tokens of 80 ms (end exclusive), and its mean log-probability there."""

    start: int
    end: int
    log_prob: float


def greedy(log_probs_NV: Tensor) -> list[int]:
    """The ids of the likeliest path: repeats merged, blanks dropped."""
    path = torch.unique_consecutive(log_probs_NV.argmax(dim=-1)).tolist()
    blank = log_probs_NV.shape[1] - 1
    return [token for token in path if token != blank]


def speech_evidence(log_probs_NV: Tensor) -> float:
    """How sure the head is that anything is said, 0 … 1: the mean of the three largest `1 − P(blank)`."""
    said_N = 1.0 - log_probs_NV[:, -1].exp()
    return float(said_N.topk(min(EVIDENCE_FRAMES, said_N.shape[0])).values.sum() / EVIDENCE_FRAMES)


def align(log_probs_NV: Tensor, ids: Sequence[int]) -> list[Span] | None:
    """The place of each token on the likeliest path that says `ids`; None when the audio is too short for them."""
    repeats = sum(a == b for a, b in itertools.pairwise(ids))
    if not ids or len(ids) + repeats > log_probs_NV.shape[0]:
        return None
    blank = log_probs_NV.shape[1] - 1
    targets = torch.tensor([list(ids)], dtype=torch.int32)
    path, scores = torchaudio.functional.forced_align(log_probs_NV.float().cpu()[None], targets, blank=blank)
    spans: list[Span] = []
    previous = blank
    for frame, (token, score) in enumerate(zip(path[0].tolist(), scores[0].tolist(), strict=True)):
        if token != blank and token != previous:
            spans.append(Span(frame, frame + 1, score))
        elif token != blank:
            last = spans[-1]
            frames = last.end - last.start
            spans[-1] = Span(last.start, frame + 1, (last.log_prob * frames + score) / (frames + 1))
        previous = token
    return spans


def words(
    tokenizer: Tokenizer, ids: Sequence[int], spans: Sequence[Span], duration_ms: int
) -> tuple[Word, ...]:
    """Words with times in steps of 40 ms, in order, none into the next one and none past `duration_ms`.

    A peak says that a sound was recognised, not where it begins and ends: a word begins EARLIER_MS before the frame of
    its first peak, and lasts until the next word begins, at most LINGER_MS after the frame of its last peak.
    A word's confidence is the geometric mean of its tokens' CTC probabilities.
    """
    groups: list[tuple[str, list[int]]] = []
    for group in _groups(tokenizer, ids):
        text = clean(tokenizer.decode([ids[i] for i in group]))
        if text:
            groups.append((text, group))
    if not groups:
        return ()
    starts = [max(0, spans[group[0]].start * TOKEN_MS - EARLIER_MS) for _, group in groups]
    found = []
    for (text, group), start_ms, limit_ms in zip(groups, starts, [*starts[1:], duration_ms], strict=True):
        end_ms = min(spans[group[-1]].end * TOKEN_MS + LINGER_MS, limit_ms)
        mean = sum(spans[i].log_prob for i in group) / len(group)
        found.append(
            Word(
                word=text,
                start_ms=min(start_ms, duration_ms),
                end_ms=min(end_ms, duration_ms),
                confidence=rounded_exp(mean),
            )
        )
    return tuple(found)


def _groups(tokenizer: Tokenizer, ids: Sequence[int]) -> list[list[int]]:
    """The places of the tokens of each word: a word begins at a leading space."""
    groups: list[list[int]] = []
    for index, token in enumerate(ids):
        piece = tokenizer.inner.id_to_token(token) or ""
        if not groups or piece.startswith(SPACE):
            groups.append([])
        groups[-1].append(index)
    return groups


def rounded_exp(log: float) -> float:
    """A probability with four digits: more are noise, and would make equal results look different."""
    return round(math.exp(log), 4)
