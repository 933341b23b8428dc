"""A tiny model of the real architecture with random weights, for tests that need all of it."""

import dataclasses
import functools

import torch

from model.config import (
    TRAINED_TOKEN_IDS,
    AdapterConfig,
    AudioConfig,
    DecoderConfig,
    EurekaConfig,
    Question,
)
from model.decoder import Qwen3Decoder
from model.eureka import Eureka
from model.tokenizer import Tokenizer, train

QUESTIONS = (
    Question("sound", "scene", "What do you hear?", ("speech", "music", "silence"), "sound"),
    Question("line", "speech", "What is the line?", ("telephone", "wideband"), "line_quality"),
)

CONFIG = EurekaConfig(
    name="tiny",
    version="1",
    audio=AudioConfig(n_mels=80, d_model=32, layers=2, heads=4, ffn=64),
    adapter=AdapterConfig(experts=4, top_k=2, shared_experts=1, hidden=16, expert_out=16, out=48),
    decoder=DecoderConfig(hidden=48, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=64, vocab=300),
    tokens=TRAINED_TOKEN_IDS,
    ctc=True,
    pad_to_30s=False,
    questions=QUESTIONS,
    language="en",
)


@functools.cache
def tokenizer() -> Tokenizer:
    return train(["please hold the line while we connect you to an agent"] * 20, 300)


def model(seed: int = 0, **changes: object) -> Eureka:
    """A tiny Eureka whose weights are large enough that its outputs differ visibly between inputs."""
    torch.manual_seed(seed)
    vocab = tokenizer().vocab_size
    config = dataclasses.replace(
        CONFIG,
        decoder=dataclasses.replace(CONFIG.decoder, vocab=vocab),
        **changes,  # type: ignore[arg-type]
    )
    return Eureka(config).eval()


DECODER = DecoderConfig(hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=48, vocab=61)


def decoder() -> Qwen3Decoder:
    """A decoder by itself, random enough that what it says depends on what it was told."""
    torch.manual_seed(5)
    made = Qwen3Decoder(DECODER).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.25)
    return made
