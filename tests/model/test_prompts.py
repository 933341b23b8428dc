"""The prompt forms, letter for letter, and that their ids say the same."""

import pytest

from model import prompts
from tests.model import tiny

AUDIO = "<|audio_start|><|audio_pad|><|audio_pad|><|audio_pad|><|audio_end|>"
ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

EXPECTED = {
    prompts.asr(3): "<|im_start|>system\nYou are an advanced ASR (Automatic Speech Recognition) AI assistant."
    f"<|im_end|>\n<|im_start|>user\n{AUDIO}{ANSWER}",
    prompts.caption(3): f"<|im_start|>user\n{AUDIO}"
    f"Please provide a comprehensive description of the input audio, covering all details.{ANSWER}",
    prompts.question(3, "What is heard?", ("music", "noise")): f"<|im_start|>user\n{AUDIO}"
    f"What is heard?\nA. music\nB. noise{ANSWER}",
}


@pytest.mark.parametrize(("prompt", "expected"), EXPECTED.items())
def test_exact_text_and_ids(prompt: str, expected: str) -> None:
    assert prompt == expected
    ids = prompts.encode(tiny.tokenizer(), prompt)
    assert tiny.tokenizer().decode(ids, skip_special=False) == expected
    assert ids.count(tiny.CONFIG.tokens.audio_pad) == 3


def test_caption_and_questions_share_the_audio_prefix() -> None:
    end = tiny.CONFIG.tokens.audio_end
    starts = set()
    for prompt in (
        prompts.caption(5),
        prompts.question(5, "a?", ("x",)),
        prompts.question(5, "Which?", ("y", "z")),
    ):
        ids = prompts.encode(tiny.tokenizer(), prompt)
        starts.add(tuple(ids[: ids.index(end) + 1]))
    assert len(starts) == 1
