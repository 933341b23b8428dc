"""The CTC speech evidence below which a transcript is empty, chosen on training windows.

In: a trained model and cached shards. Out: the threshold, and what it would do to the windows it was chosen on.
Knows no test data. Invariant: of the thresholds that let no training sound pass, the one half-way (in log-odds) to
the evidence that all but a small share of the speech windows reach; when there is none, the share of lost speech wins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model import ctc
from model.eureka import Eureka
from model.train.cache import Live
from model.train.dataset import Example
from model.train.inputs import stacked
from model.train.losses import states_of

LOST_SPEECH = 0.01


@dataclass(frozen=True)
class Threshold:
    """`sounds_passed` and `speech_lost` are fractions of the windows looked at."""

    value: float
    sounds_passed: float
    speech_lost: float
    windows: int


@torch.inference_mode()
def evidence(model: Eureka, examples: Sequence[Example], live: Live) -> list[float]:
    """Speech evidence of each window, as the engine computes it."""
    found = []
    for example in examples:
        adapted = model.adapt(states_of(model, live, stacked([example], live)))
        found.append(ctc.speech_evidence(model.ctc_log_probs(adapted.embeds_BNO, adapted.valid_BN())[0]))
    return found


def choose(model: Eureka, examples: Sequence[Example], live: Live) -> Threshold:
    """Look at every window whose words are known. Raises ValueError without sounds or without speech."""
    known = [example for example in examples if example.item.text is not None]
    values = evidence(model, known, live)
    sounds = sorted(v for v, e in zip(values, known, strict=True) if not e.item.text)
    speech = sorted(v for v, e in zip(values, known, strict=True) if e.item.text)
    if not sounds or not speech:
        raise ValueError("a threshold needs windows with and without speech")
    value = halfway(sounds[-1], speech[int(LOST_SPEECH * len(speech))])
    return Threshold(
        value,
        sum(v >= value for v in sounds) / len(sounds),
        sum(v < value for v in speech) / len(speech),
        len(known),
    )


def halfway(loudest_sound: float, weakest_speech: float) -> float:
    """Between the two in log-odds; the speech's value when they overlap."""
    if loudest_sound >= weakest_speech:
        return round(weakest_speech, 4)
    low, high = (math.log(p / (1 - p)) for p in (_inside(loudest_sound), _inside(weakest_speech)))
    return round(1 / (1 + math.exp(-(low + high) / 2)), 4)


def _inside(probability: float) -> float:
    return min(max(probability, 1e-6), 1 - 1e-6)
