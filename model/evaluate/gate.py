"""Measures one checkpoint for the gate: words on manifests, words where nobody speaks, scenes.

In: an engine and the held-out material. Out: a `model.gate.Measured`, item by item, so that two checkpoints can be
compared pair by pair. It measures nothing itself: the figures are those of `model.evaluate.asr`, `nonspeech`, `scenes`.
Invariant: which items there are depends on the material alone, never on the engine.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from model.checkpoint import sha256_of
from model.engine import Engine
from model.evaluate import asr, nonspeech, scenes
from model.gate import Heard, Measured


def measure(
    engine: Engine,
    sha256: str,
    manifests: Sequence[Path],
    asterisk: Path,
    esc10: Path | None,
    count: int,
    say: Callable[[str], None],
) -> Measured:
    """`sha256` is that of the checkpoint; `count` scenes are made. Raises ValueError for material that is not there."""
    heard = []
    for manifest in manifests:
        say(f"{engine.version}: words of {manifest.name}")
        heard.append(_hear(engine, manifest))
    say(f"{engine.version}: non-speech")
    sounds = nonspeech.evaluate(engine, asterisk, esc10, ())
    say(f"{engine.version}: scenes")
    # one at a time: the report of one scene says whether that one was right
    reports = [scenes.evaluate(engine, [scene]) for scene in scenes.build(asterisk, esc10, count)]
    return Measured(
        model=engine.name,
        version=engine.version,
        sha256=sha256,
        heard=tuple(heard),
        nonspeech_words=sum(sounds.words.values()),
        nonspeech_minutes=sounds.minutes,
        question=tuple(report.question == 1.0 for report in reports),
        caption=tuple(report.caption == 1.0 for report in reports),
    )


def _hear(engine: Engine, manifest: Path) -> Heard:
    report = asr.evaluate(asr.read_manifest(manifest), asr.engine_transcriber(engine))
    errors, words = [], []
    for pair in report.pairs:
        try:
            score = asr.score([pair])
        except ValueError:  # a reference without a word
            continue
        errors.append(round(score.wer * score.words))
        words.append(score.words)
    return Heard(manifest.name, sha256_of(manifest), tuple(errors), tuple(words))
