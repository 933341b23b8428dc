"""One transcript from two witnesses: the decoder and the CTC head.

In: what both say about a window. Out: a `TextAnswer` with word times. Knows no audio and runs no model.
Invariant: words only when both witnesses hear speech; word times only from the CTC alignment, else None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from model import beam, ctc
from model.answers import TextAnswer
from model.config import EurekaConfig
from model.generate import Generated
from model.reading import Ids, Read
from model.tokenizer import Tokenizer, clean

# What the decoder makes of texts (model.reading).
Readings = Callable[[Sequence[Ids]], Sequence[Read]]


@dataclass(frozen=True)
class Hearing:
    """What the CTC head says about one window: its log-probabilities `[N, V + 1]`, greedy text and evidence."""

    log_probs_NV: Tensor
    ids: tuple[int, ...]
    evidence: float


def hear(log_probs_NV: Tensor, special_ids: tuple[int, ...]) -> Hearing:
    ids = tuple(token for token in ctc.greedy(log_probs_NV) if token not in special_ids)
    return Hearing(log_probs_NV, ids, ctc.speech_evidence(log_probs_NV))


def is_silent(hearing: Hearing, config: EurekaConfig) -> bool:
    """Whether the CTC head hears no speech, so that the decoder need not be asked."""
    return hearing.evidence < config.decoding.speech_threshold or not hearing.ids


def silent(hearing: Hearing, task: str) -> TextAnswer:
    """The empty transcript."""
    confidence = round(1.0 - hearing.evidence, 4)
    return TextAnswer(task, "", language=None, confidence=confidence, words=(), timing_source="ctc")


def choose(hearing: Hearing, read: Readings, config: EurekaConfig, tokenizer: Tokenizer) -> tuple[Ids, float]:
    """The text that both witnesses find likeliest, and its joint score `λ·log P_ctc + (1 − λ)·log P_decoder`.

    Empty when the decoder, asked first, would write nothing: words need both witnesses.
    """
    weight = config.decoding.ctc_weight
    (nothing,) = read([()])
    if nothing.likes_to_end:
        return (), nothing.end_log_prob
    ends: dict[Ids, float] = {}

    def written(texts: Sequence[Ids]) -> list[float]:
        found = read(texts)
        ends.clear()
        ends.update({text: one.end_log_prob for text, one in zip(texts, found, strict=True)})
        return [one.log_prob for one in found]

    heard = beam.search(
        hearing.log_probs_NV, config.decoding.ctc_beam, tokenizer.special_ids(), written, weight
    )
    scores = {ids: score + (1.0 - weight) * ends[ids] for ids, score in heard}
    best = max(scores, key=lambda ids: (bool(ids), scores[ids]))
    return best, scores[best]


def spoken(
    hearing: Hearing,
    ids: Ids,
    score: float,
    tokenizer: Tokenizer,
    config: EurekaConfig,
    task: str,
    duration_ms: int,
) -> TextAnswer:
    """A transcript with word times.

    The confidence is the geometric mean per token (the end included) of the probability by which the text was chosen:
    `exp(score / (tokens + 1))`. It is not calibrated.
    """
    text = clean(tokenizer.decode(ids))
    confidence = ctc.rounded_exp(score / (len(ids) + 1))
    if not text or confidence < config.decoding.min_confidence:
        return silent(hearing, task)
    spans = ctc.align(hearing.log_probs_NV, ids)
    return TextAnswer(
        task,
        text,
        language=config.language,
        confidence=confidence,
        words=None if spans is None else ctc.words(tokenizer, ids, spans, duration_ms),
        timing_source=None if spans is None else "ctc",
    )


def written(generated: Generated, tokenizer: Tokenizer, task: str, language: str | None) -> TextAnswer:
    """A text as the decoder wrote it, without word times: captions, and transcripts without a CTC head."""
    text = clean(tokenizer.decode(generated.ids))
    confidence = ctc.rounded_exp(sum(generated.log_probs) / max(1, len(generated.log_probs)))
    return TextAnswer(task, text, language if text else None, confidence, words=None, timing_source=None)
