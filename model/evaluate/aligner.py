"""Word times by another program: the acoustic model of CMU Sphinx forced onto the reference text.

In: references. Out: the same with word times, as far as every word is in its dictionary. Knows no engine of ours.
Invariant: nothing of our model takes part. It needs the package `pocketsphinx` (BSD; its model of US English comes with
it), of the extra `evaluate`.

Its own limits: Gaussian mixtures and a grid of 10 ms; its word edges are an opinion too, some tens of ms from a
phonetician's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from model.evaluate import extra
from model.evaluate.asr import Reference, read_reference
from model.evaluate.text import tokens

FRAME_MS = 10


def align(references: Iterable[Reference]) -> Iterator[Reference]:
    """References with word times; those with a word it does not know, or that it cannot align, are left out.

    Raises ValueError when the package is not there.
    """
    sphinx = extra.module("pocketsphinx", "the independent aligner")
    decoder = sphinx.Decoder(lm=None, samprate=16000, loglevel="FATAL")
    for reference in references:
        said = tokens(reference.text, "spoken")
        if said and all(decoder.lookup_word(word) for word in said):
            words = _times(decoder, said, read_reference(reference).tobytes())
            if [word for word, _, _ in words] == said:
                yield dataclasses.replace(reference, words=tuple(words))


def _times(decoder: Any, said: list[str], raw: bytes) -> list[tuple[str, int, int]]:
    decoder.set_align_text(" ".join(said))
    decoder.start_utt()
    decoder.process_raw(raw, full_utt=True)
    decoder.end_utt()
    return [
        (part.word.partition("(")[0], part.start_frame * FRAME_MS, (part.end_frame + 1) * FRAME_MS)
        for part in decoder.seg() or ()
        if part.word[0] not in "<["
    ]
