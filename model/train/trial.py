"""What a checkpoint makes of a test manifest: its transcripts and their word error rate, by the engine that serves it.

In: a checkpoint, a manifest of the task asr. Out: a `Heard`. Knows no training.
Invariant: what is measured is what was understood, not what a loss says: `hear` gives what the engine answers, with all
its checks; `hear_by_ctc` the adapter's own reading, without a decoder.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from model import checkpoint, ctc
from model.engine import Engine
from model.evaluate import asr
from model.features import log_mel
from model.tokenizer import clean
from model.train import manifest


@dataclass(frozen=True)
class Heard:
    """`pairs`: what was said and what was understood."""

    wer: float
    cer: float
    words: int
    pairs: tuple[tuple[str, str], ...]


def hear(path: Path, test: Path, threads: int) -> Heard:
    """Transcribe every asr line of a manifest whose audio is a whole file."""
    engine = Engine.open(path, device="cpu", threads=threads)
    return _scored(test, asr.engine_transcriber(engine))


@torch.inference_mode()
def hear_by_ctc(path: Path, test: Path) -> Heard:
    """The same by the CTC head alone, its likeliest path. ValueError without a CTC head."""
    loaded = checkpoint.load(path)
    model = loaded.model

    def transcribe(audio: asr.Audio) -> str:
        wave = torch.from_numpy(audio.astype(np.float32) / 32768)
        adapted = model.adapt(model.encode([log_mel(wave, loaded.config.audio.n_mels)]))
        log_probs_NV = model.ctc_log_probs(adapted.embeds_BNO)[0]
        return clean(loaded.tokenizer.decode(ctc.greedy(log_probs_NV)))

    return _scored(test, transcribe)


def _scored(test: Path, transcribe: asr.Transcriber) -> Heard:
    samples = [sample for sample in manifest.read(test) if sample.task == "asr" and sample.end is None]
    references = [asr.Reference(sample.audio, sample.answer) for sample in samples]
    report = asr.evaluate(references, transcribe)
    return Heard(report.all.wer, report.all.cer, report.all.words, report.pairs)
