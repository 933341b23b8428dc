"""The three prompt forms of the released model, as exact token text.

In: a form and a number of audio tokens. Out: text, or ids. Knows no model.
Invariant: the audio comes first in the user's turn, so caption and questions share a prefix (`audio_prefix`), and
nothing stands between `<|audio_end|>` and the text after it.
"""

from __future__ import annotations

from collections.abc import Sequence

from model.tokenizer import Tokenizer

ASR_SYSTEM = "You are an advanced ASR (Automatic Speech Recognition) AI assistant."
CAPTION_REQUEST = "Please provide a comprehensive description of the input audio, covering all details."
ANSWER_START = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


def audio_text(n_tokens: int) -> str:
    """The audio's place in a prompt: n placeholders between start and end."""
    return "<|audio_start|>" + "<|audio_pad|>" * n_tokens + "<|audio_end|>"


def user_prompt(n_tokens: int, request: str, system: str | None = None) -> str:
    """Any of the forms, up to where the answer starts."""
    head = "" if system is None else f"<|im_start|>system\n{system}<|im_end|>\n"
    return f"{head}<|im_start|>user\n{audio_text(n_tokens)}{request}<|im_end|>\n{ANSWER_START}"


def asr(n_tokens: int) -> str:
    """Transcribe."""
    return user_prompt(n_tokens, "", system=ASR_SYSTEM)


def caption(n_tokens: int) -> str:
    """Describe."""
    return user_prompt(n_tokens, CAPTION_REQUEST)


def question(n_tokens: int, text: str, choices: Sequence[str]) -> str:
    """Ask; the choices stand on their own lines as `A. …`."""
    lines = [text, *(f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(choices))]
    return user_prompt(n_tokens, "\n".join(lines))


def encode(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt made here. The answer's ids are encoded apart and appended, never merged across."""
    return tokenizer.encode(prompt)
