"""One transcript from two witnesses: the decoder and the CTC head.

In: what both say about a window. Out: a `TextAnswer` with word times. Knows no audio and runs no model.
Invariant: words only when both witnesses hear speech; word times only from the CTC alignment, else None.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model import ctc
from model.answers import TextAnswer
from model.config import EurekaConfig
from model.generate import Generated
from model.tokenizer import Tokenizer, clean


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


def transcribe(
    hearing: Hearing | None,
    generated: Generated,
    tokenizer: Tokenizer,
    config: EurekaConfig,
    task: str,
    duration_ms: int,
) -> TextAnswer:
    """Choose between the decoder's and the CTC head's text and give the words their times.

    The confidence is the geometric mean per token (the end included) of the joint probability by which the text was
    chosen: `exp((λ·log P_ctc + (1 − λ)·log P_decoder) / (tokens + 1))`. It is not calibrated.
    """
    if hearing is None:
        return written(generated, tokenizer, task, config.language)
    ids, log_prob = choose(hearing, generated, config.decoding.ctc_weight)
    text = clean(tokenizer.decode(ids))
    if not text:
        return silent(hearing, task)
    joint = ctc.joint_score(ctc.log_prob(hearing.log_probs_NV, ids), log_prob, config.decoding.ctc_weight)
    spans = ctc.align(hearing.log_probs_NV, ids)
    return TextAnswer(
        task,
        text,
        language=config.language,
        confidence=ctc.rounded_exp(joint / (len(ids) + 1)),
        words=None if spans is None else ctc.words(tokenizer, ids, spans, duration_ms),
        timing_source=None if spans is None else "ctc",
    )


def choose(hearing: Hearing, generated: Generated, weight: float) -> tuple[tuple[int, ...], float]:
    """The better of the two texts by the joint score, and its log-probability by the decoder.

    An empty text of the decoder stands: words need both witnesses. A text of the decoder that never ended, or
    ran in a loop, has no probability as a whole and loses.
    """
    decoded = sum(generated.log_probs)
    if not generated.ids or generated.scored is None or generated.ids == hearing.ids:
        return generated.ids, decoded
    if generated.finish == "end":
        by_decoder = ctc.joint_score(ctc.log_prob(hearing.log_probs_NV, generated.ids), decoded, weight)
        by_ctc = ctc.joint_score(ctc.log_prob(hearing.log_probs_NV, hearing.ids), generated.scored, weight)
        if by_decoder >= by_ctc:
            return generated.ids, decoded
    return hearing.ids, generated.scored


def written(generated: Generated, tokenizer: Tokenizer, task: str, language: str | None) -> TextAnswer:
    """A text as the decoder wrote it, without word times: captions, and transcripts without a CTC head."""
    text = clean(tokenizer.decode(generated.ids))
    confidence = ctc.rounded_exp(sum(generated.log_probs) / max(1, len(generated.log_probs)))
    return TextAnswer(task, text, language if text else None, confidence, words=None, timing_source=None)
