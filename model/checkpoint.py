"""Checkpoints: one safetensors file with the configuration and the tokenizer in its metadata.

In: a path. Out: a model ready to run, its tokenizer, its configuration and the SHA-256 of what was read.
A folder is read as the released layout (`model.released`). Knows no training state and no pickle.
Invariant: every tensor of the file is used and every parameter comes from the file, or loading fails.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.config import EurekaConfig
from model.eureka import Eureka
from model.tokenizer import Tokenizer

FORMAT = "eureka-stream-1"


class CheckpointError(Exception):
    """The checkpoint cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint holds. `sha256` is of the file, or of the list of a folder's files and digests."""

    model: Eureka
    tokenizer: Tokenizer
    config: EurekaConfig
    sha256: str


def save(model: Eureka, tokenizer: Tokenizer, path: Path, dtype: torch.dtype = torch.float16) -> str:
    """Write `model` as one file, replacing `path` in one step. Returns its SHA-256."""
    check_tokens(model.config, tokenizer)
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in stored(model).items()}
    metadata = {"format": FORMAT, "config": model.config.to_json(), "tokenizer": tokenizer.to_json()}
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, partial, metadata=metadata)
    digest = sha256_of(partial)
    os.replace(partial, path)
    return digest


def load(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    expected_sha256: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Read our layout from a file or the released layout from a folder, in evaluation mode.

    Raises CheckpointError: not there, not ours, damaged, keys that do not match, another digest than expected.
    """
    if path.is_dir():
        from model import released  # here, because it builds on this module

        return released.load(path, device, dtype, expected_sha256, trust_remote_code)
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    digest = check_digest(path.name, sha256_of(path), expected_sha256)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path.name} is no checkpoint of this project (format {FORMAT})")
            config = EurekaConfig.from_json(metadata["config"])
            tokenizer = Tokenizer.from_json(metadata["tokenizer"])
            tensors = {key: placed(key, file.get_tensor(key), device, dtype) for key in file.offset_keys()}
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    check_tokens(config, tokenizer)
    return Loaded(build(config, tensors), tokenizer, config, digest)


def stored(model: Eureka) -> dict[str, Tensor]:
    """The state dict as it is stored: a tied `lm_head` is not stored twice."""
    state = dict(model.state_dict())
    if model.config.decoder.tie_embeddings:
        del state["decoder.lm_head.weight"]
    return state


def build(config: EurekaConfig, tensors: Mapping[str, Tensor]) -> Eureka:
    """A model that holds exactly these tensors (no copy). Raises CheckpointError when the keys do not match."""
    with torch.device("meta"):
        model = Eureka(config)
    expected = stored(model)
    if set(expected) != set(tensors):
        raise CheckpointError(mismatch("the checkpoint", set(expected), set(tensors)))
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise CheckpointError(
                f"{key}: {list(tensor.shape)} in the file, {list(expected[key].shape)} by config"
            )
    model.load_state_dict(dict(tensors), strict=False, assign=True)
    if config.decoder.tie_embeddings:
        model.decoder.lm_head.weight = model.decoder.model.embed_tokens.weight
    return model.eval().requires_grad_(False)


def placed(key: str, tensor: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """A tensor where and as it will be used; the router stays in fp32."""
    return tensor.to(device, torch.float32 if ".router." in key else dtype)


def mismatch(what: str, expected: set[str], found: set[str]) -> str:
    """Both sides of a difference between key sets, readable."""
    missing, unexpected = sorted(expected - found), sorted(found - expected)
    return (
        f"{what} does not match this model.\n"
        f"  expected and not found ({len(missing)}): {', '.join(missing) or '-'}\n"
        f"  found and not expected ({len(unexpected)}): {', '.join(unexpected) or '-'}"
    )


def check_tokens(config: EurekaConfig, tokenizer: Tokenizer) -> None:
    """Raises CheckpointError when configuration and tokenizer disagree."""
    if config.tokens != tokenizer.ids:
        raise CheckpointError(
            f"token ids {config.tokens} in the configuration, {tokenizer.ids} in the tokenizer"
        )
    if tokenizer.vocab_size > config.decoder.vocab:
        raise CheckpointError(
            f"{tokenizer.vocab_size} tokens in the tokenizer, {config.decoder.vocab} in the decoder"
        )


def check_digest(name: str, digest: str, expected: str | None) -> str:
    """Returns the digest. Raises CheckpointError when another one was expected."""
    if expected is not None and digest != expected:
        raise CheckpointError(f"{name} has SHA-256 {digest}, expected {expected}")
    return digest


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
