"""Text ↔ token ids.

In: text, possibly with special tokens such as `<|im_start|>`. Out: ids, and back. Knows no prompt form.
Invariant: `decode(encode(text)) == text` for any text, special tokens included when they are not skipped; a text
that comes from outside never yields a special token (`encode_plain`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from model.config import TokenIds

# In the order of the fields of TokenIds.
SPECIAL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_pad|>",
    "<|audio_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
)


class Tokenizer:
    """A `tokenizers` tokenizer that holds the special tokens of the prompts."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Raises ValueError when a special token is missing."""
        found = {token: inner.token_to_id(token) for token in SPECIAL_TOKENS}
        ids = [id_ for id_ in found.values() if id_ is not None]
        if len(ids) < len(found):
            missing = [token for token, id_ in found.items() if id_ is None]
            raise ValueError(f"the tokenizer lacks {', '.join(missing)}")
        self.inner = inner
        self.ids = TokenIds(*ids)

    @property
    def vocab_size(self) -> int:
        return int(self.inner.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of a text of our own; special tokens in it are recognised."""
        return list(self.inner.encode(text, add_special_tokens=False).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Ids of a text from elsewhere. Raises ValueError when it spells a special token."""
        if any(token in text for token in SPECIAL_TOKENS):
            raise ValueError("the text contains a special token")
        return self.encode(text)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD."""
        if skip_special:
            special = set(self.special_ids())
            ids = [i for i in ids if i not in special]
        return str(self.inner.decode(list(ids), skip_special_tokens=False))

    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, in the order of SPECIAL_TOKENS."""
        ids = self.ids
        return (
            ids.im_start,
            ids.im_end,
            ids.audio_start,
            ids.audio_pad,
            ids.audio_end,
            ids.endoftext,
            ids.think,
            ids.think_end,
        )

    def letter_ids(self, count: int) -> list[int]:
        """Ids of the letters A, B, … Raises ValueError when one is not a single token."""
        ids = [self.encode(chr(ord("A") + i)) for i in range(count)]
        if any(len(i) != 1 for i in ids):
            raise ValueError("a choice letter is not a single token of this tokenizer")
        return [i[0] for i in ids]

    def to_json(self) -> str:
        return str(self.inner.to_str())

    @staticmethod
    def from_json(text: str) -> Tokenizer:
        return Tokenizer(tokenizers.Tokenizer.from_str(text))

    @staticmethod
    def from_file(path: Path) -> Tokenizer:
        """Read a Hugging Face `tokenizer.json`."""
        return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))


def clean(text: str) -> str:
    """Single spaces; no control characters (a database refuses NUL) and none of the marks of cut bytes."""
    kept = (character for character in text if character.isspace() or unicodedata.category(character) != "Cc")
    return " ".join("".join(kept).replace("\ufffd", "").split())


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE; the special tokens get the ids 0 … 7 (`TRAINED_TOKEN_IDS`)."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(inner)
