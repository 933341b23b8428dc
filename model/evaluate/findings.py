"""Everything that is known of one checkpoint: what a report compares.

In: an engine and the held-out data at hand. Out: `Findings`. Knows no page and no picture. Invariant: what cannot be
measured for want of data is left out and listed, with what it would take; nothing is measured on training data unless
its name says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.engine import Engine
from model.evaluate import asr, digits, events, nonspeech, paralinguistic, scenes
from model.evaluate.calibration import Reliability, reliability
from model.evaluate.confusions import Confusion, confusions
from model.evaluate.examples import worst
from model.evaluate.heard import (
    Heard,
    character_errors,
    listen,
    transcript_confidences,
    ways,
    word_confidences,
    word_errors,
)
from model.evaluate.measures import Measure
from model.evaluate.times import differences

Say = Callable[[str], None]
WORST = 8


@dataclass(frozen=True)
class Sources:
    """Held-out data; None where there is none. `nonspeech_part`: of the 21 minutes; `windows`: of scenes, of voices;
    `strings`: of digits.
    """

    asterisk: Path | None = None
    sounds: Path | None = None
    takes: Path | None = None
    manifests: tuple[Path, ...] = ()
    nonspeech_part: float = 1.0
    windows: int = 100
    strings: int = 60


@dataclass(frozen=True)
class Worst:
    """An utterance with many errors."""

    of: str
    said: str
    heard: str
    errors: int
    words: int


@dataclass
class Findings:
    """`missing`: what was not measured, and what it would take."""

    checkpoint: str
    engine: str
    device: str
    measures: list[Measure] = field(default_factory=list)
    reliabilities: list[Reliability] = field(default_factory=list)
    confusions: list[tuple[str, Confusion]] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def measure(engine: Engine, checkpoint: str, sources: Sources, say: Say) -> Findings:
    """All evaluations that the sources allow. Raises ValueError for a source that cannot be read."""
    found = Findings(checkpoint, f"{engine.name} {engine.version}", engine.device)
    sets: dict[str, Sequence[asr.Reference]] = {}
    if sources.asterisk is not None:
        sets["Asterisk prompts, test fifth"] = asr.test_prompts(sources.asterisk)
    sets |= {path.stem: asr.read_manifest(path) for path in sources.manifests}
    heard: list[Heard] = []
    for name, references in sets.items():
        say(f"{checkpoint}: {name}, {len(references)} utterances")
        heard += _speech(engine, found, name, references)
    if not sets:
        found.missing.append("word errors: a manifest, or the demo's recordings")
    _calibration(found, "held-out speech", heard)
    _digits(engine, found, sources, say)
    _sounds(engine, found, sources, say)
    labelled = [one for some in sets.values() for one in some if one.labels]
    if labelled:
        found.confusions += [
            ("manifest", one) for one in confusions(engine, paralinguistic.of_references(labelled))
        ]
    return found


def _speech(engine: Engine, found: Findings, name: str, references: Sequence[asr.Reference]) -> list[Heard]:
    heard = listen(engine, references).heard
    mandarin = any(one.rule == "zh" for one in references)
    found.measures.append(word_errors(f"{name}: {'CER' if mandarin else 'WER'}", heard))
    if not mandarin:
        found.measures.append(character_errors(f"{name}: CER", heard))
    if any(one.words for one in references):
        found.measures += differences(name, heard)
    found.worst += [
        Worst(name, one.reference.text, one.text, one.errors.word_errors, one.errors.words)
        for one in worst(heard, WORST)
        if one.errors is not None
    ]
    return list(heard)


def _calibration(found: Findings, what: str, heard: Sequence[Heard]) -> None:
    for name, pairs in (
        (f"transcripts, {what}", transcript_confidences(heard)),
        (f"words, {what}", word_confidences(heard)),
    ):
        if pairs:
            found.reliabilities.append(reliability(name, pairs))


def _digits(engine: Engine, found: Findings, sources: Sources, say: Say) -> None:
    if sources.takes is None:
        found.missing.append("digit strings and exactly known word times: a folder of spoken digits")
        return
    say(f"{found.checkpoint}: {sources.strings} digit strings of a held-out speaker")
    with tempfile.TemporaryDirectory(prefix="eureka-digits-") as name:
        references = digits.build(sources.takes, Path(name), sources.strings)
        for way in ways(engine):
            heard = listen(engine, references, way).heard
            found.measures.append(word_errors(f"digit strings, held-out speaker, by {way}: WER", heard))
            if way == ways(engine)[0]:
                _calibration(found, "digit strings", heard)
                if engine.config.ctc:
                    found.measures += differences("digits", heard, "single recorded words put together")


def _sounds(engine: Engine, found: Findings, sources: Sources, say: Say) -> None:
    if sources.sounds is None:
        found.missing.append("sound events: a folder of them, CLASS/FOLD-….ogg")
    else:
        say(f"{found.checkpoint}: sound events")
        report = events.evaluate(engine, sources.sounds)
        found.measures.append(report.accuracy)
        found.confusions.append(("sound events", report.named))
        if report.broad is not None:
            found.confusions.append(("kinds of sound events", report.broad))
    if sources.asterisk is None:
        found.missing.append("voice, line, background, scenes, non-speech: the demo's recordings")
        return
    say(f"{found.checkpoint}: scenes and voices, {sources.windows} each")
    made = scenes.build(sources.asterisk, sources.sounds, sources.windows)
    spoken = paralinguistic.windows(sources.asterisk, sources.sounds, sources.takes, sources.windows)
    for of, items in (("scenes", paralinguistic.of_scenes(made)), ("held-out voices", spoken)):
        for confusion in confusions(engine, items):
            if (of == "scenes") == (confusion.question == "sound"):
                found.measures.append(confusion.accuracy(f"{confusion.question}, {of}"))
                found.confusions.append((of, confusion))
    say(f"{found.checkpoint}: non-speech")
    invented = nonspeech.listen(engine, sources.asterisk, sources.sounds, sources.nonspeech_part)
    note = f"{sum(one.seconds for one in invented) / 60:.1f} min, no VAD"
    found.measures += nonspeech.rates(invented, note)
