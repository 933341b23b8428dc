"""One transcript from two witnesses: the decoder and the CTC head.

In: what both say about a window. Out: a `TextAnswer` with word times. Knows no audio and runs no model.
Invariant: words only when both witnesses hear speech; word times only from the CTC alignment, else None.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model import beam, ctc
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
    ids, joint = choose(hearing, generated, config.decoding.ctc_weight)
    text = clean(tokenizer.decode(ids))
    if not text:
        return silent(hearing, task)
    spans = ctc.align(hearing.log_probs_NV, ids)
    return TextAnswer(
        task,
        text,
        language=config.language,
        confidence=ctc.rounded_exp(joint / (len(ids) + 1)),
        words=None if spans is None else ctc.words(tokenizer, ids, spans, duration_ms),
        timing_source=None if spans is None else "ctc",
    )


def candidates(hearing: Hearing, config: EurekaConfig, special_ids: tuple[int, ...]) -> tuple[beam.Ids, ...]:
    """The CTC head's likeliest texts, which the decoder is to score; none where its word does not count."""
    if not config.decoding.ctc_weight:
        return ()
    found = [ids for ids in beam.search(hearing.log_probs_NV, config.decoding.ctc_beam, special_ids) if ids]
    return tuple(found or [hearing.ids])


def choose(hearing: Hearing, generated: Generated, weight: float) -> tuple[beam.Ids, float]:
    """The best text by the joint score, and that score: the decoder's own against the CTC head's candidates.

    An empty text of the decoder stands: words need both witnesses. A text of the decoder that never ended, or
    ran in a loop, has no probability as a whole and does not compete.
    """
    by_decoder = dict(generated.scored)
    if generated.finish == "end" or not by_decoder or not generated.ids:
        by_decoder[generated.ids] = sum(generated.log_probs)
    texts = list(by_decoder)
    if not generated.ids:
        texts = [generated.ids]
    joint = [
        ctc.joint_score(by_ctc, by_decoder[ids], weight)
        for ids, by_ctc in zip(texts, ctc.log_probs(hearing.log_probs_NV, texts), strict=True)
    ]
    best = max(range(len(texts)), key=joint.__getitem__)
    return texts[best], joint[best]


def written(generated: Generated, tokenizer: Tokenizer, task: str, language: str | None) -> TextAnswer:
    """A text as the decoder wrote it, without word times: captions, and transcripts without a CTC head."""
    text = clean(tokenizer.decode(generated.ids))
    confidence = ctc.rounded_exp(sum(generated.log_probs) / max(1, len(generated.log_probs)))
    return TextAnswer(task, text, language if text else None, confidence, words=None, timing_source=None)
