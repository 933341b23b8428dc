"""Is this checkpoint whole, and does it run here? Looked at part by part, so that a failure has a name.

In: a path, a few recordings with their texts. Out: a `Report` of checks, in the order in which they build on each
other; what a failed one keeps from being looked at is not reported as good. Knows no gate and no service. Invariants:
nothing in a checkpoint is executed (safetensors only; `trust_remote_code` is the caller's word); what the model says is
counted and not told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from model import released
from model.answers import Request, TextAnswer
from model.checkpoint import CheckpointError, sha256_of
from model.engine import Engine
from model.evaluate import asr

# Formats that run code when they are read; a folder that holds one is refused, whether it is used or not.
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
SILENCES_S = (1, 5, 30)
SENTENCE = "Please hold the line while we connect you."


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """`model`, `version` and `sha256` are empty where the checks did not get that far."""

    ok: bool
    path: str
    sha256: str
    size_bytes: int
    model: str
    version: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """The known prompts and the most word errors, as a fraction, with which they still count as read."""

    prompts: Sequence[asr.Reference]
    max_wer: float


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of the list of a released folder's files. Raises CheckpointError, OSError."""
    return released.digest_of(released.shards(path)) if path.is_dir() else sha256_of(path)


def verify(path: Path, bound: Bound, device: str = "auto", trust_remote_code: bool = False) -> Report:
    """Look at everything that can be looked at. Raises ValueError for a device that is not there."""
    checks: list[Check] = []
    sha256, size_bytes, model, version = "", 0, "", ""
    try:
        files = _files(path)
        checks.append(Check("safetensors", True, f"{len(files)} file(s), no pickle"))
        sha256, size_bytes = digest_of(path), sum(file.stat().st_size for file in files)
        checks.append(Check("sha256", True, f"{sha256}, {size_bytes} bytes"))
        checks.append(_tensors(files))
        if checks[-1].ok:
            engine = Engine.open(
                path,
                device=device,
                compile=False,
                expected_sha256=sha256,
                trust_remote_code=trust_remote_code,
            )
            model, version = engine.name, engine.version
            checks += [*_parts(engine), _silence(engine), _prompts(engine, bound)]
    except (CheckpointError, SafetensorError, OSError) as error:
        checks.append(Check("readable", False, str(error)))
    return Report(all(c.ok for c in checks), str(path), sha256, size_bytes, model, version, tuple(checks))


def _files(path: Path) -> list[Path]:
    """The weight files. Raises CheckpointError for anything that is not safetensors."""
    if path.is_dir():
        pickles = sorted(p.name for p in path.rglob("*") if p.suffix in PICKLES)
        if pickles:
            raise CheckpointError(f"pickles run code when they are read: {', '.join(pickles)}")
        return [file for file in released.shards(path) if file.suffix == ".safetensors"]
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    return [path]


def _tensors(files: Sequence[Path]) -> Check:
    """Whether each number of each tensor is one. Raises SafetensorError."""
    bad, tensors, numbers = [], 0, 0
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for key in opened.offset_keys():
                tensor = opened.get_tensor(key)
                tensors, numbers = tensors + 1, numbers + tensor.numel()
                if not bool(torch.isfinite(tensor).all()):
                    bad.append(key)
    if bad:
        return Check("finite", False, f"{len(bad)} tensors are not, such as {', '.join(bad[:3])}")
    return Check("finite", True, f"{tensors} tensors, {numbers / 1e6:.1f} M numbers")


def _parts(engine: Engine) -> list[Check]:
    """What loading has shown already, and whether the tokenizer gives back what it gets."""
    config = engine.config
    detail = f"{config.name} {config.version}, {len(config.questions)} questions, CTC {config.ctc}"
    again = engine.tokenizer.decode(engine.tokenizer.encode_plain(SENTENCE))
    told = f"{engine.tokenizer.vocab_size} tokens" + (
        "" if again == SENTENCE else ", a sentence does not come back"
    )
    return [
        Check("configuration", True, detail),
        Check("compatible", True, f"every tensor is used and none is missing; runs on {engine.device}"),
        Check("tokenizer", again == SENTENCE, told),
    ]


def _silence(engine: Engine) -> Check:
    words = 0
    for seconds in SILENCES_S:
        silence = np.zeros(seconds * asr.RATE_HZ, np.int16)
        (response,) = engine.run([Request("silence", silence, ("transcript",))])
        if response.error is not None:
            return Check("silence", False, response.error)
        words += sum(len(a.text.split()) for a in response.answers if isinstance(a, TextAnswer))
    return Check("silence", words == 0, f"{words} words in {sum(SILENCES_S)} s")


def _prompts(engine: Engine, bound: Bound) -> Check:
    if not bound.prompts:
        return Check("prompts", False, "no recording to try it on")
    score = asr.evaluate(bound.prompts, asr.engine_transcriber(engine)).all
    detail = f"{score.wer:.1%} word errors in {score.words} words, at most {bound.max_wer:.0%} are allowed"
    return Check("prompts", score.wer <= bound.max_wer, detail)
