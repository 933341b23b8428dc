"""The model to train: the nano configuration, its tokenizer, the imported encoder.

In: sentences for the tokenizer, the encoder's file, a run's folder. Out: an untrained or a trained `Eureka`, and the
exported checkpoint. Knows no data. Invariant: the tokenizer is trained once per run and kept beside it.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from model import checkpoint, tokenizer
from model.config import CONFIGS, EurekaConfig
from model.encoder import WhisperEncoder
from model.eureka import Eureka
from model.tokenizer import Tokenizer
from model.train.batches import corpus
from model.train.loop import freeze_below, load_state
from model.train.windows import QUESTIONS

VOCABULARY = 768
VERSION = "3"
CTC_BLOCKS = 4
# Chosen on sentences of training voices that were not trained on; 0.5 and 0.7 read them equally well.
CTC_WEIGHT = 0.6


def nano_config(vocab: int) -> EurekaConfig:
    """The nano configuration with this vocabulary and the questions it is trained on."""
    base = CONFIGS["nano"]
    decoder = dataclasses.replace(base.decoder, vocab=vocab)
    return dataclasses.replace(
        base, version=VERSION, decoder=decoder, questions=QUESTIONS, ctc_blocks=CTC_BLOCKS
    )


def load_encoder(path: Path, config: EurekaConfig) -> WhisperEncoder:
    """The imported Whisper encoder in fp32, frozen; the training thaws its last layers."""
    encoder = WhisperEncoder(config.audio)
    encoder.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return encoder.eval().requires_grad_(False)


def run_tokenizer(run: Path, sentences: Sequence[str] | None = None) -> Tokenizer:
    """The run's tokenizer, trained from `sentences` the first time. ValueError when there is neither."""
    path = run / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(path)
    if sentences is None:
        raise ValueError(f"no tokenizer at {path}")
    trained = tokenizer.train(corpus(sentences), VOCABULARY)
    run.mkdir(parents=True, exist_ok=True)
    path.write_text(trained.to_json(), encoding="utf-8")
    return trained


def untrained(
    run: Path,
    encoder: Path,
    seed: int,
    sentences: Sequence[str] | None = None,
    start: Path | None = None,
) -> tuple[Eureka, Tokenizer]:
    """A fresh model with the imported encoder, or one that goes on from the checkpoint `start`.

    The checkpoint brings its tokenizer along. ValueError when the run has another one already.
    """
    if start is not None:
        return _started(run, start)
    tokens = run_tokenizer(run, sentences)
    config = nano_config(tokens.vocab_size)
    torch.manual_seed(seed)
    model = Eureka(config)
    model.audio_encoder = load_encoder(encoder, config)
    return model, tokens


def _started(run: Path, start: Path) -> tuple[Eureka, Tokenizer]:
    loaded = checkpoint.load(start)
    path = run / "tokenizer.json"
    if path.exists() and path.read_text(encoding="utf-8") != loaded.tokenizer.to_json():
        raise ValueError(f"{path} is not the tokenizer of {start}")
    run.mkdir(parents=True, exist_ok=True)
    path.write_text(loaded.tokenizer.to_json(), encoding="utf-8")
    model = Eureka(loaded.config)
    model.load_state_dict(loaded.model.state_dict())
    return model, loaded.tokenizer


def trained(run: Path, encoder: Path) -> tuple[Eureka, Tokenizer]:
    """The run's model as far as it has been trained."""
    model, tokens = untrained(run, encoder, seed=0)
    freeze_below(model)
    load_state(run, {name: p for name, p in model.named_parameters() if p.requires_grad}, None)
    return model.eval(), tokens


def export(model: Eureka, tokens: Tokenizer, speech_threshold: float, out: Path) -> str:
    """Write a trained model as a checkpoint. Returns its SHA-256."""
    decoding = dataclasses.replace(
        model.config.decoding, speech_threshold=speech_threshold, ctc_weight=CTC_WEIGHT
    )
    model.config = dataclasses.replace(model.config, decoding=decoding)
    out.parent.mkdir(parents=True, exist_ok=True)
    return checkpoint.save(model, tokens, out)
