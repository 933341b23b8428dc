"""LibriSpeech as a manifest, by way of torchaudio.

In: a folder with LibriSpeech (or where torchaudio may put it), a part of it such as train-clean-100. Out: samples of
the task asr. Knows no model. Invariant: every utterance of the part is in the manifest, in the corpus's order; its text
is written as nano writes (`model.train.spoken`): lower case, no punctuation.
"""

from collections.abc import Iterator
from pathlib import Path

import torchaudio

from model.train.manifest import Sample
from model.train.spoken import plain

LICENCE = "CC-BY-4.0"


def samples(root: Path, part: str, download: bool = False) -> Iterator[Sample]:
    """One sample per utterance. FileNotFoundError when it is not there and not to be downloaded; ValueError for the
    part, and for an archive that is damaged."""
    try:
        corpus = torchaudio.datasets.LIBRISPEECH(root, url=part, download=download)
    except RuntimeError as error:
        if download:
            raise ValueError(str(error)) from error
        raise FileNotFoundError(f"no LibriSpeech/{part} in {root}; --download fetches it") from error
    for number in range(len(corpus)):
        path, _, text, *_ = corpus.get_metadata(number)
        yield Sample(
            audio=(root / corpus_folder(path)).absolute(),
            task="asr",
            prompt="",
            answer=plain(text),
            language="en",
            licence=LICENCE,
            source=f"librispeech/{part}",
        )


def corpus_folder(path: str) -> Path:
    """torchaudio's paths start at the archive's folder in the root."""
    return Path("LibriSpeech") / path
