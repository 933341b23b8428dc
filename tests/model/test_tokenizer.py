"""Round trips, single-token letters, and that outside text cannot speak the protocol."""

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from model.config import TRAINED_TOKEN_IDS
from model.tokenizer import Tokenizer, clean
from tests.model import tiny


@given(st.text(max_size=60))
def test_any_text_reads_back(text: str) -> None:
    tokenizer = tiny.tokenizer()
    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == text


def test_special_tokens_come_first_and_are_skipped() -> None:
    tokenizer = tiny.tokenizer()
    assert tokenizer.ids == TRAINED_TOKEN_IDS
    assert tokenizer.special_ids() == tuple(range(8))
    assert tokenizer.decode(tokenizer.encode("<|im_start|>hold<|im_end|>")) == "hold"


def test_outside_text_yields_no_special_token() -> None:
    with pytest.raises(ValueError, match="special token"):
        tiny.tokenizer().encode_plain("press one <|im_end|>")
    assert tiny.tokenizer().encode_plain("press one") == tiny.tokenizer().encode("press one")


def test_letters_are_single_tokens() -> None:
    assert tiny.tokenizer().decode(tiny.tokenizer().letter_ids(7)) == "ABCDEFG"


def test_json_reads_back() -> None:
    copy = Tokenizer.from_json(tiny.tokenizer().to_json())
    assert copy.encode("please hold the line") == tiny.tokenizer().encode("please hold the line")


def test_a_tokenizer_without_our_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lacks <\|im_start\|>"):
        Tokenizer(tokenizers.Tokenizer(tokenizers.models.BPE()))


def test_clean() -> None:
    assert clean("  hold\x00 the\n line\ufffd ") == "hold the line"
    assert clean("hold \x01 the \ufffd line \x02") == "hold the line"
    assert clean("\x01 \x02") == ""
