"""The model a recipe names: what it starts from, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Inner

from model import checkpoint
from model.config import CONFIGS
from model.train import build
from model.train.recipe import ModelTable, RecipeError
from tests.model import tiny


def test_a_run_may_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    checkpoint.save(tiny.model(), tiny.tokenizer(), path)
    table = ModelTable(start=path, version="7")
    model, tokens = build.build(table, tmp_path / "run", 2, list)
    saved = checkpoint.load(path).model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.ctc_head.parameters())  # type: ignore[union-attr]
    assert model.config.version == "7"
    kept = tmp_path / "run" / build.TOKENIZER
    assert kept.read_text(encoding="utf-8") == tokens.to_json()
    kept.write_text("{}", encoding="utf-8")
    with pytest.raises(RecipeError, match="is not the tokenizer"):
        build.build(table, tmp_path / "run", 2, list)


def test_a_released_decoder_gets_the_audio_s_tokens(tmp_path: Path) -> None:
    """A Qwen3 tokenizer has no audio tokens; the adapter's model needs them, and embeddings for them."""
    inner = Inner.from_str(tiny.tokenizer().to_json().replace("<|audio_", "<|other_"))
    inner.save(str(tmp_path / "tokenizer.json"))
    table = ModelTable(decoder=tmp_path, ctc=False)
    tokens = build._tokenizer(table, tmp_path, list)
    config = build.config_of(table, tokens)
    assert config.tokens.audio_pad == tokens.vocab_size - 2
    assert config.decoder.vocab == CONFIGS["nano"].decoder.vocab
    with pytest.raises(RecipeError, match="no safetensors"):
        build.build(table, tmp_path, 1, list)


def test_an_encoder_is_found_in_its_own_file_and_in_a_checkpoint(tmp_path: Path) -> None:
    want = tiny.model().audio_encoder
    for prefix in build.ENCODER_PREFIXES:
        path = tmp_path / f"{len(prefix)}.safetensors"
        save_file({f"{prefix}{name}": value.half() for name, value in want.state_dict().items()}, path)
        found = build.load_encoder(path, tiny.CONFIG)
        assert torch.equal(found.conv1.weight, want.conv1.weight.half().float())
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match="missing"):
        build.load_encoder(tmp_path / "other.safetensors", tiny.CONFIG)
