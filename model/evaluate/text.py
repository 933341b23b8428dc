"""What counts as the same text: the rules by which a reference and what was heard are compared.

In: texts. Out: tokens, and errors of one utterance. Knows no audio. Invariant: a rule is applied to both sides alike.

- `en`: Whisper's English normaliser (arXiv 2212.04356, appendix C), words; characters of the same normalised text. Its
  table of British spellings is not part of `transformers` and so not applied: *colour* and *color* differ.
- `zh`: Unicode NFKC, lower case, everything dropped that is neither letter nor digit; each Han character is a token,
  each run of other letters and digits is one (as wenet's `compute-wer.py --char=1` counts). Numbers are compared as
  written: `2` and `二` differ.
- `spoken`: lower case, letters, digits and apostrophes; words as they are spoken. Whisper's rule makes one number of
  "three four one", so digits and single words are compared by this one.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import jiwer
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

Rule = Literal["en", "zh", "spoken"]
_TOKENS = re.compile(r"[㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f]|[^\W_㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f]+")


@dataclass(frozen=True)
class Errors:
    """Of one utterance. `pairs`: (index in reference, index in hypothesis) of the words that are equal."""

    words: int
    word_errors: int
    hits: int
    characters: int
    character_errors: int
    pairs: tuple[tuple[int, int], ...]
    heard: tuple[str, ...]


def tokens(text: str, rule: Rule) -> list[str]:
    """The words or, of Mandarin, the characters that are compared."""
    if rule == "en":
        return str(_english()(text)).split()
    if rule == "spoken":
        return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'"))
    return _TOKENS.findall(unicodedata.normalize("NFKC", text).lower())


def errors(reference: str, heard: str, rule: Rule) -> Errors | None:
    """Edits from reference to hypothesis; None when the reference holds no token."""
    said, found = tokens(reference, rule), tokens(heard, rule)
    if not said:
        return None
    words = jiwer.process_words([" ".join(said)], [" ".join(found)])
    characters = jiwer.process_characters([" ".join(said)], [" ".join(found)])
    pairs = [
        (chunk.ref_start_idx + offset, chunk.hyp_start_idx + offset)
        for chunk in words.alignments[0]
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    return Errors(
        words=len(said),
        word_errors=words.substitutions + words.deletions + words.insertions,
        hits=words.hits,
        characters=characters.hits + characters.substitutions + characters.deletions,
        character_errors=characters.substitutions + characters.deletions + characters.insertions,
        pairs=tuple(pairs),
        heard=tuple(found),
    )


@functools.cache
def _english() -> Any:
    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
