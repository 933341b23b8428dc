"""The model to train, as a recipe says: fresh, from a checkpoint, or around a Whisper encoder and a Qwen3 decoder.

In: a recipe's model table, texts for a tokenizer, the run's folder. Out: a `Eureka` with its tokenizer, and the
exported checkpoint. Knows no audio. Invariant: a tokenizer is trained once per run and kept beside its state; weights
that are read have the names and shapes that the geometry says, or it is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import AddedToken
from tokenizers import Tokenizer as Inner
from torch import Tensor, nn

from model import checkpoint, tokenizer
from model.adapter import MoEAdapter
from model.config import CONFIGS, EurekaConfig
from model.encoder import WhisperEncoder
from model.eureka import Eureka
from model.tokenizer import SPECIAL_TOKENS, Tokenizer
from model.train.recipe import ModelTable, RecipeError
from model.train.windows import QUESTIONS

TOKENIZER = "tokenizer.json"
# Where an encoder is found: a file of its own, ours, transformers' WhisperForConditionalGeneration, WhisperModel.
ENCODER_PREFIXES = ("", "audio_encoder.", "model.encoder.", "encoder.")
Texts = Callable[[], Iterable[str]]


def build(table: ModelTable, run: Path, seed: int, texts: Texts) -> tuple[Eureka, Tokenizer]:
    """The untrained model in fp32. `texts` are asked for when a tokenizer has to be trained.

    Raises RecipeError for files that do not fit, and when the run has another tokenizer already.
    """
    if table.start is not None:
        loaded = checkpoint.load(table.start)
        _keep(run, loaded.tokenizer, table.start)
        # A copy: what a checkpoint holds is frozen.
        model = Eureka(dataclasses.replace(loaded.config, version=table.version))
        model.load_state_dict(loaded.model.state_dict())
    else:
        tokens = _tokenizer(table, run, texts)
        torch.manual_seed(seed)
        model = Eureka(config_of(table, tokens))
        if table.encoder is not None:
            model.audio_encoder = load_encoder(table.encoder, model.config)
        if table.decoder is not None:
            fill(model.decoder, read(table.decoder), ("",), table.decoder)
        loaded = None
    if isinstance(model.audio_adapter, MoEAdapter):
        # Differentiable in every type on every device, and on a CPU faster than the grouped product; the same function.
        model.audio_adapter.path = "loop"
    return model, loaded.tokenizer if loaded is not None else tokens


def config_of(table: ModelTable, tokens: Tokenizer) -> EurekaConfig:
    """The geometry with this table's sizes and this tokenizer's ids."""
    base = CONFIGS[table.geometry]
    vocab = base.decoder.vocab if table.decoder is not None else tokens.vocab_size
    if tokens.vocab_size > vocab:
        raise RecipeError(f"{table.decoder}: {tokens.vocab_size} tokens for {vocab} embeddings")
    return dataclasses.replace(
        base,
        name=table.name,
        version=table.version,
        adapter=table.adapter_config(),
        decoder=dataclasses.replace(base.decoder, vocab=vocab),
        tokens=tokens.ids,
        ctc=table.ctc,
        ctc_blocks=table.ctc_blocks if table.ctc else 0,
        language=table.language,
        questions=tuple(question for question in QUESTIONS if question.name in table.questions),
        decoding=dataclasses.replace(base.decoding, ctc_weight=table.ctc_weight if table.ctc else 0.0),
    )


def _tokenizer(table: ModelTable, run: Path, texts: Texts) -> Tokenizer:
    """The decoder's own with the audio's tokens added, or the run's, trained the first time."""
    if table.decoder is not None:
        path = table.decoder / TOKENIZER
        if not path.is_file():
            raise RecipeError(f"no tokenizer at {path}")
        inner = Inner.from_file(str(path))
        inner.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
        )
        return Tokenizer(inner)
    path = run / TOKENIZER
    if path.exists():
        return Tokenizer.from_file(path)
    trained = tokenizer.train(texts(), table.vocabulary)
    _write(path, trained)
    return trained


def _keep(run: Path, tokens: Tokenizer, start: Path) -> None:
    """The checkpoint's tokenizer becomes the run's."""
    path = run / TOKENIZER
    if path.exists() and path.read_text(encoding="utf-8") != tokens.to_json():
        raise RecipeError(f"{path} is not the tokenizer of {start}")
    _write(path, tokens)


def _write(path: Path, tokens: Tokenizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(tokens.to_json(), encoding="utf-8")
    partial.replace(path)


def load_encoder(path: Path, config: EurekaConfig) -> WhisperEncoder:
    """A Whisper encoder in fp32, frozen; from a file of its own, a checkpoint of ours or of transformers."""
    encoder = WhisperEncoder(config.audio)
    fill(encoder, read(path), ENCODER_PREFIXES, path)
    return encoder.eval().requires_grad_(False)


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of those of a folder. RecipeError when there are none."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise RecipeError(f"no safetensors at {path}")
    found: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    return found


def fill(module: nn.Module, tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], path: Path) -> None:
    """Copy tensors into a module, by name after one of the prefixes. RecipeError when one is missing or misshapen."""
    wanted = module.state_dict()
    for prefix in prefixes:
        named = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
        if "model.embed_tokens.weight" in named:  # tied, and not stored twice
            named.setdefault("lm_head.weight", named["model.embed_tokens.weight"])
        if not named:
            continue
        missing = sorted(set(wanted) - set(named))
        wrong = [name for name, value in named.items() if value.shape != wanted[name].shape]
        if missing or wrong:
            raise RecipeError(f"{path}: missing {missing[:5]}, of another shape {wrong[:5]}")
        module.load_state_dict({name: value.float() for name, value in named.items()})
        return
    raise RecipeError(f"{path}: nothing in it is a {type(module).__name__}")


def export(model: Eureka, tokens: Tokenizer, out: Path, speech_threshold: float | None = None) -> str:
    """Write a trained model as a checkpoint, with this threshold in it if one is given. Returns its SHA-256."""
    if speech_threshold is not None:
        decoding = dataclasses.replace(model.config.decoding, speech_threshold=speech_threshold)
        model.config = dataclasses.replace(model.config, decoding=decoding)
    out.parent.mkdir(parents=True, exist_ok=True)
    return checkpoint.save(model, tokens, out)
