"""Alignments on hand-made probabilities, speech evidence, the joint choice."""

import dataclasses
import itertools
import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from model import ctc, transcript
from model.answers import Word
from model.config import EurekaConfig
from model.reading import Ids, Read
from model.tokenizer import Tokenizer
from tests.model import tiny


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


def says(path: list[int], vocab: int, sure: float = 0.9) -> Tensor:
    """Log-probabilities in which each frame says one symbol (−1: blank) with probability `sure`."""
    probabilities = torch.full((len(path), vocab + 1), (1 - sure) / vocab)
    for frame, token in enumerate(path):
        probabilities[frame, token] = sure
    return probabilities.log()


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    assert ctc.greedy(says([-1, 4, 4, -1, 4, 2, 2, -1], 6)) == [4, 4, 2]


def test_a_text_too_long_for_the_audio_is_impossible() -> None:
    log_probs = says([1, 1], 3)
    assert ctc.align(log_probs, [1, 1]) is None  # a repeat needs a blank between
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
    assert words[0].start_ms == 160 - ctc.EARLIER_MS
    assert words[-1].end_ms == 80 * len(path)  # the last peak ends 80 ms before the audio does
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(words))  # no pause between them
    assert all(word.confidence == pytest.approx(0.9, abs=1e-3) for word in words)
    assert ctc.words(tokenizer, ids, spans, duration_ms=100)[-1] == Word(
        "line", 100, 100, words[-1].confidence
    )


def test_a_word_lasts_beyond_its_last_peak_but_not_through_a_pause() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("hold on")
    first = len(tokenizer.encode("hold"))

    def timed(blanks: int, duration_ms: int = 80_000) -> list[tuple[int, int]]:
        places = [*range(first), *range(first + blanks, len(ids) + blanks)]
        spans = [ctc.Span(place, place + 1, -0.1) for place in places]
        found = ctc.words(tokenizer, ids, spans, duration_ms)
        assert [word.word for word in found] == ["hold", "on"]
        return [(word.start_ms, word.end_ms) for word in found]

    peak_ms = 80 * first
    for blanks in range(3):
        (start, end), (following, _) = timed(blanks)
        assert (start, end) == (0, following) == (0, peak_ms + 80 * blanks - ctc.EARLIER_MS)
    (_, end), (_, last) = timed(20)
    assert end == peak_ms + ctc.LINGER_MS
    assert last == 80 * (len(ids) + 20) + ctc.LINGER_MS
    assert all(0 <= a <= b <= 100 for a, b in timed(20, duration_ms=100))


def test_words_never_overlap_and_never_leave_the_window() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("please hold the line while we look for you")
    rng = random.Random(7)
    for _ in range(200):
        places = sorted(rng.sample(range(len(ids) + rng.randrange(200)), len(ids)))
        spans = [ctc.Span(place, place + 1, -0.1) for place in places]
        duration_ms = rng.randrange(places[-1] * 80 + 200)
        found = ctc.words(tokenizer, ids, spans, duration_ms)
        edges = [edge for word in found for edge in (word.start_ms, word.end_ms)]
        assert edges == sorted(edges)
        assert 0 <= edges[0] <= edges[-1] <= duration_ms
        assert all(word.start_ms < word.end_ms for word in found if word.start_ms < duration_ms)


def test_tokens_that_are_no_text_are_no_words() -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode("\x01 \x02")
    spans = [ctc.Span(place, place + 1, -0.1) for place in range(len(ids))]
    assert len(ids) >= 2
    assert ctc.words(tokenizer, ids, spans, duration_ms=1000) == ()


def test_speech_evidence() -> None:
    assert ctc.speech_evidence(says([-1] * 20, 9, sure=0.999)) < 0.01
    assert ctc.speech_evidence(says([-1] * 8 + [3, 4, 5], 9, sure=0.999)) > 0.99
    assert ctc.speech_evidence(says([3], 9, sure=0.999)) == pytest.approx(1 / 3, abs=0.01)


HEARD = (10, 11, 12)


def expecting(*texts: Ids, sure: float) -> transcript.Readings:
    """A decoder that goes along `texts` with probability `sure` at each step, and ends them."""
    end = tiny.CONFIG.tokens.im_end

    def expect(prefix: Ids) -> list[float]:
        row = [math.log((1.0 - sure) / 19)] * 20
        for text in texts:
            if text[: len(prefix)] == prefix:
                row[text[len(prefix)] if len(text) > len(prefix) else end] = math.log(sure)
        return row

    def read(asked: Sequence[Ids]) -> list[Read]:
        found = []
        for text in asked:
            log_prob = sum(expect(text[:i])[token] for i, token in enumerate(text))
            after = expect(text)
            found.append(Read(log_prob, after[end], after[end] == max(after)))
        return found

    return read


def weighted(weight: float) -> EurekaConfig:
    decoding = dataclasses.replace(tiny.CONFIG.decoding, ctc_weight=weight)
    return dataclasses.replace(tiny.CONFIG, decoding=decoding)


def test_the_joint_choice(tokenizer: Tokenizer) -> None:
    hearing = transcript.hear(says([-1, 10, -1, 11, -1, 12], 20), ())
    assert hearing.ids == HEARD

    def chosen(read: transcript.Readings, weight: float) -> Ids:
        return transcript.choose(hearing, read, weighted(weight), tokenizer)[0]

    fluent = expecting((10, 15, 12), sure=0.9)  # what the decoder would invent
    assert chosen(fluent, 0.9) == HEARD
    agreeing = expecting(HEARD, sure=0.9)
    assert chosen(agreeing, 0.3) == HEARD
    assert chosen(expecting((), sure=0.9), 0.9) == ()  # the decoder hears nobody: no words


def test_the_decoder_decides_between_texts_that_sound_alike(tokenizer: Tokenizer) -> None:
    probabilities = torch.full((5, 21), 0.001)
    for frame, token in enumerate((-1, 10, -1, 11, -1)):
        probabilities[frame, token] = 0.97
    probabilities[3, 11], probabilities[3, 15] = 0.55, 0.42
    hearing = transcript.hear(probabilities.log().log_softmax(-1), ())
    assert hearing.ids == (10, 11)
    likes_15 = expecting((10, 15), sure=0.9)
    ids, score = transcript.choose(hearing, likes_15, weighted(0.5), tokenizer)
    assert ids == (10, 15)
    assert score < 0
    assert transcript.choose(hearing, likes_15, weighted(0.99), tokenizer)[0] == (10, 11)


def test_no_words_without_speech_evidence() -> None:
    config = tiny.CONFIG
    blank = transcript.hear(says([-1] * 30, 20, sure=0.999), ())
    assert transcript.is_silent(blank, config)
    answer = transcript.silent(blank, "transcript")
    assert (answer.text, answer.language, answer.words) == ("", None, ())
    assert not transcript.is_silent(transcript.hear(says([9, 10, 11, 12], 20), ()), config)


def test_special_tokens_are_no_text() -> None:
    assert transcript.hear(says([0, 3, 10, 7], 20), tuple(range(8))).ids == (10,)
