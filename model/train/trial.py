"""What a checkpoint makes of a test manifest: its transcripts and their word error rate, by the engine that serves it.

In: a checkpoint, a manifest of the task asr. Out: a `Heard`. Knows no training.
Invariant: what is measured is what the engine answers, with all its checks, not what a loss says.
"""

from dataclasses import dataclass
from pathlib import Path

from model.engine import Engine
from model.evaluate import asr
from model.train import manifest


@dataclass(frozen=True)
class Heard:
    """`pairs`: what was said and what was understood."""

    wer: float
    cer: float
    words: int
    pairs: tuple[tuple[str, str], ...]


def hear(checkpoint: Path, test: Path, threads: int) -> Heard:
    """Transcribe every asr line of a manifest whose audio is a whole file."""
    samples = [sample for sample in manifest.read(test) if sample.task == "asr" and sample.end is None]
    references = [asr.Reference(sample.audio, sample.answer) for sample in samples]
    engine = Engine.open(checkpoint, device="cpu", threads=threads)
    report = asr.evaluate(references, asr.engine_transcriber(engine))
    return Heard(report.all.wer, report.all.cer, report.all.words, report.pairs)
