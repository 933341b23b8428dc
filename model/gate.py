"""The gate: may checkpoint B take the place of checkpoint A?

In: what was measured of both on the same material (`model.evaluate.gate`), and how much worse B may be. Out: a table
with intervals, a verdict with its reasons, and the gate record that `eureka checkpoint promote` asks for. Pure; imports
no torch. Invariants: the same measurements give the same verdict to the last digit (resampling is seeded); a verdict
holds only for these two digests; the record holds figures and no text.

The rule is that of a non-inferiority trial: not "B's figure is no worse", which chance decides, but "the worse end of
the 95 % interval of the difference is within the margin". The interval is the percentile bootstrap over utterances,
both checkpoints on the same resample (Bisani and Ney, ICASSP 2004).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = "eureka-gate-1"
RESAMPLES = 2000
SEED = 25_112_026
LEVEL = 0.95
FEWEST = 30  # utterances of a manifest, or scenes: fewer say nothing, whatever their interval


class GateError(ValueError):
    """No verdict, or a record that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Margins:
    """How much worse B may be, as fractions: 0.02 is two words more in a hundred, or two scenes fewer."""

    wer: float
    scenes: float


@dataclass(frozen=True, slots=True)
class Heard:
    """One manifest: word errors and words of each utterance that has words, in the manifest's order."""

    manifest: str
    sha256: str
    errors: tuple[int, ...]
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """One checkpoint. `question` and `caption` say of each scene whether its class was named."""

    model: str
    version: str
    sha256: str
    heard: tuple[Heard, ...]
    nonspeech_words: int
    nonspeech_minutes: float
    question: tuple[bool, ...]
    caption: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table; `low` to `high` is the interval of `delta`, b - a. `margin` bounds its worse end."""

    what: str
    a: float
    b: float
    delta: float
    low: float | None
    high: float | None
    margin: float
    items: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reasons` say what kept B from passing; none when it has passed."""

    passed: bool
    reasons: tuple[str, ...]
    figures: tuple[Figure, ...]


def judge(a: Measured, b: Measured, margins: Margins) -> Verdict:
    """Compare. Raises GateError when the two were not measured on the same material, or on too little."""
    if [(h.sha256, h.words) for h in a.heard] != [(h.sha256, h.words) for h in b.heard]:
        raise GateError("the two checkpoints were not measured on the same utterances")
    if len(a.question) != len(b.question) or a.nonspeech_minutes != b.nonspeech_minutes:
        raise GateError("the two checkpoints were not measured on the same sounds")
    if not a.heard:
        raise GateError("a verdict needs at least one manifest")
    figures = [_words(x, y, margins.wer) for x, y in zip(a.heard, b.heard, strict=True)]
    figures.append(_nonspeech(a, b))
    figures += [
        _scenes("scene question", a.question, b.question, margins.scenes),
        _scenes("scene caption", a.caption, b.caption, margins.scenes),
    ]
    reasons = [_reason(figure) for figure in figures if not figure.ok]
    return Verdict(not reasons, tuple(reasons), tuple(figures))


def record(
    a: Measured, b: Measured, margins: Margins, verdict: Verdict, **circumstances: str
) -> dict[str, Any]:
    """The gate record as JSON-able data; `circumstances`: when, where and with which program it was made."""
    sides = {
        name: {"model": m.model, "version": m.version, "sha256": m.sha256} for name, m in (("a", a), ("b", b))
    }
    manifests = [{"manifest": h.manifest, "sha256": h.sha256, "utterances": len(h.words)} for h in b.heard]
    return {
        "format": FORMAT,
        **circumstances,
        **sides,
        "passed": verdict.passed,
        "reasons": list(verdict.reasons),
        "margins": asdict(margins),
        "interval": f"{LEVEL:.0%} percentile bootstrap, paired, {RESAMPLES} resamples, seed {SEED}",
        "figures": [asdict(figure) for figure in verdict.figures],
        "manifests": manifests,
        "nonspeech_minutes": b.nonspeech_minutes,
    }


def read_record(path: Path) -> dict[str, Any]:
    """A gate record. Raises GateError: not there, or not one."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT or not isinstance(found["passed"], bool):
            raise ValueError
        for side in ("a", "b"):
            str(found[side]["sha256"])
        Margins(**found["margins"])
    except OSError as error:
        raise GateError(f"no gate record at {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise GateError(f"{path} is no gate record (format {FORMAT})") from None
    return found


def objection(found: dict[str, Any], sha256: str, baseline: str | None, margins: Margins) -> str:
    """Why a record does not let the checkpoint with this digest pass; empty when it does.

    `baseline`: the digest of what workers run now, which B must have been compared with; None: nothing runs yet.
    """
    if found["b"]["sha256"] != sha256:
        return f"the gate record is of another checkpoint, {found['b']['sha256']}"
    if not found["passed"]:
        return "the gate was not passed: " + "; ".join(found["reasons"])
    if baseline is not None and found["a"]["sha256"] != baseline:
        return f"it was compared with {found['a']['sha256'][:16]}, and workers run {baseline[:16]}"
    if found["margins"]["wer"] > margins.wer or found["margins"]["scenes"] > margins.scenes:
        return f"the gate's margins were wider than the settings allow ({margins.wer:g}, {margins.scenes:g})"
    return ""


def _words(a: Heard, b: Heard, margin: float) -> Figure:
    words = np.asarray(a.words, np.float64)
    worse = np.asarray(b.errors, np.float64) - np.asarray(a.errors, np.float64)
    low, high = _interval(worse, words)
    total = words.sum()
    of_a, of_b = (float(sum(side.errors) / total) for side in (a, b))
    ok = high <= margin and len(words) >= FEWEST
    return Figure(f"word errors, {a.manifest}", of_a, of_b, of_b - of_a, low, high, margin, len(words), ok)


def _scenes(what: str, a: Sequence[bool], b: Sequence[bool], margin: float) -> Figure:
    better = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    low, high = _interval(better, np.ones(len(better)))
    of_a, of_b = (float(np.mean(side)) for side in (a, b))
    ok = low >= -margin and len(better) >= FEWEST
    return Figure(what, of_a, of_b, of_b - of_a, low, high, margin, len(better), ok)


def _nonspeech(a: Measured, b: Measured) -> Figure:
    """No interval: one word where nobody speaks is one too many."""
    of_a, of_b = float(a.nonspeech_words), float(b.nonspeech_words)
    minutes = round(b.nonspeech_minutes)
    ok = b.nonspeech_words == 0
    return Figure("words on non-speech", of_a, of_b, of_b - of_a, None, None, 0.0, minutes, ok)


def _interval(differences: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Of sum(differences) / sum(weights), by resampling the items."""
    count = len(differences)
    if count == 0:
        raise GateError("nothing was measured")
    drawn = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    rates = (drawn @ differences) / (drawn @ weights)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(rates, (tail, 1 - tail))
    return float(low), float(high)


def _reason(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.what}: {figure.b:g} in {figure.items} minutes"
    if figure.items < FEWEST:
        return f"{figure.what}: {figure.items} items, and {FEWEST} are the fewest that say something"
    return (
        f"{figure.what}: {figure.a:.4f} to {figure.b:.4f}, the difference between {figure.low:+.4f} and "
        f"{figure.high:+.4f}, the margin {figure.margin:g}"
    )
