"""CTC scores by enumerating all paths, alignments on hand-made probabilities, the joint choice."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor

from model import ctc, transcript
from model.answers import Word
from model.generate import Generated
from tests.model import tiny


def says(path: list[int], vocab: int, sure: float = 0.9) -> Tensor:
    """Log-probabilities in which each frame says one symbol (−1: blank) with probability `sure`."""
    probabilities = torch.full((len(path), vocab + 1), (1 - sure) / vocab)
    for frame, token in enumerate(path):
        probabilities[frame, token] = sure
    return probabilities.log()


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    assert ctc.greedy(says([-1, 4, 4, -1, 4, 2, 2, -1], 6)) == [4, 4, 2]


def test_log_prob_equals_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(5, 4).log_softmax(-1)
    for text in ([], [0], [1, 1], [2, 0, 1]):
        total = 0.0
        for path in itertools.product(range(4), repeat=5):
            merged = [token for token, _ in itertools.groupby(path) if token != 3]
            if merged == text:
                total += math.exp(sum(float(log_probs[i, token]) for i, token in enumerate(path)))
        assert ctc.log_probs(log_probs, [text]) == [pytest.approx(math.log(total), abs=1e-4)]


def test_a_text_too_long_for_the_audio_is_impossible() -> None:
    log_probs = says([1, 1], 3)
    assert ctc.log_probs(log_probs, [[1, 1]]) == [-math.inf]  # a repeat needs a blank between
    assert ctc.align(log_probs, [1, 1]) is None
    assert ctc.align(log_probs, []) is None


def test_words_lie_where_they_were_said() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("hold the line")
    path = [-1, -1]
    for token in ids:
        path += [token, token, -1]
    log_probs = says(path, tokenizer.vocab_size)
    spans = ctc.align(log_probs, ids)
    assert spans is not None
    assert [(span.start, span.end) for span in spans] == [(2 + 3 * i, 4 + 3 * i) for i in range(len(ids))]
    words = ctc.words(tokenizer, ids, spans, duration_ms=len(path) * 80)
    assert [word.word for word in words] == ["hold", "the", "line"]
    assert words[0].start_ms == 160
    assert words[-1].end_ms == 80 * (len(path) - 1)
    assert all(a.end_ms <= b.start_ms for a, b in itertools.pairwise(words))
    assert all(word.confidence == pytest.approx(0.9, abs=1e-3) for word in words)
    assert ctc.words(tokenizer, ids, spans, duration_ms=100)[-1] == Word(
        "line", 100, 100, words[-1].confidence
    )


def test_speech_evidence() -> None:
    assert ctc.speech_evidence(says([-1] * 20, 9, sure=0.999)) < 0.01
    assert ctc.speech_evidence(says([-1] * 8 + [3, 4, 5], 9, sure=0.999)) > 0.99
    assert ctc.speech_evidence(says([3], 9, sure=0.999)) == pytest.approx(1 / 3, abs=0.01)


def test_joint_score() -> None:
    assert ctc.joint_score(-2.0, -4.0, 0.25) == pytest.approx(-3.5)
    assert ctc.joint_score(-math.inf, -4.0, 0.0) == -4.0


HEARD = (10, 11, 12)


def generated(ids: list[int], log_prob: float, finish: str = "end", heard: float | None = -1.0) -> Generated:
    """What the decoder writes, and what it thinks of what the CTC head heard."""
    scored = () if heard is None else ((HEARD, heard),)
    return Generated(tuple(ids), (log_prob,), finish, scored)  # type: ignore[arg-type]


def test_the_joint_choice() -> None:
    hearing = transcript.hear(says([-1, 10, -1, 11, -1, 12], 20), ())
    assert hearing.ids == HEARD
    fluent = generated([10, 15, 12], log_prob=-0.1, heard=-2.0)  # what the decoder invents
    heard, invented = ctc.log_probs(hearing.log_probs_NV, [HEARD, (10, 15, 12)])
    assert transcript.choose(hearing, fluent, 0.5) == (HEARD, pytest.approx((heard - 2.0) / 2))
    assert transcript.choose(hearing, fluent, 0.0) == ((10, 15, 12), pytest.approx(-0.1))
    sure = generated([10, 15, 12], log_prob=-0.1, heard=-90.0)
    assert transcript.choose(hearing, sure, 0.5) == ((10, 15, 12), pytest.approx((invented - 0.1) / 2))
    looping = generated([10, 15, 12], log_prob=-0.1, finish="loop", heard=-90.0)
    assert transcript.choose(hearing, looping, 0.5)[0] == HEARD
    nothing = generated([], log_prob=-0.1, heard=-0.2)
    assert transcript.choose(hearing, nothing, 0.5)[0] == ()
    unheard = generated([10, 15, 12], log_prob=-0.1, finish="length", heard=None)
    assert transcript.choose(hearing, unheard, 0.0)[0] == (10, 15, 12)


def test_the_candidates_are_the_heads_likeliest_texts() -> None:
    hearing = transcript.hear(says([-1, 10, -1, 11, -1, 12], 20), ())
    found = transcript.candidates(hearing, tiny.CONFIG, ())
    assert found[0] == HEARD
    assert 1 < len(found) <= tiny.CONFIG.decoding.ctc_beam
    assert () not in found
    deaf = dataclasses.replace(
        tiny.CONFIG, decoding=dataclasses.replace(tiny.CONFIG.decoding, ctc_weight=0.0)
    )
    assert transcript.candidates(hearing, deaf, ()) == ()


def test_no_words_without_speech_evidence() -> None:
    config = tiny.CONFIG
    blank = transcript.hear(says([-1] * 30, 20, sure=0.999), ())
    assert transcript.is_silent(blank, config)
    answer = transcript.silent(blank, "transcript")
    assert (answer.text, answer.language, answer.words) == ("", None, ())
    assert not transcript.is_silent(transcript.hear(says([9, 10, 11, 12], 20), ()), config)


def test_special_tokens_are_no_text() -> None:
    assert transcript.hear(says([0, 3, 10, 7], 20), tuple(range(8))).ids == (10,)
