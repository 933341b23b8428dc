"""The released Eureka-Audio layout: a Hugging Face folder with sharded safetensors.

In: a folder with `config.json`, `*.safetensors` (with or without an index) and `tokenizer.json`, whose keys are
`audio_encoder.speech_encoder.*` (WhisperEncoder), `audio_moe_adaptor.*`, `backbone.model.*` and
`backbone.lm_head.*` (Qwen3ForCausalLM). Out: a `Loaded`.
Does not know the inner keys of the released adapter: nobody here has seen them. Widths come from the
tensors' shapes, the few numbers that no shape shows from `config.json`. Invariant: nothing is guessed silently; an
adapter of other keys fails with both lists and the option that runs the release's own code for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.adapter import MoEAdapter, RouterStats
from model.checkpoint import (
    CheckpointError,
    Loaded,
    build,
    check_digest,
    check_tokens,
    mismatch,
    placed,
    sha256_of,
)
from model.config import CONFIGS, AdapterConfig, AudioConfig, DecoderConfig, EurekaConfig
from model.tokenizer import Tokenizer

ENCODER, ADAPTER, BACKBONE = "audio_encoder.speech_encoder.", "audio_moe_adaptor.", "backbone."


def load(
    folder: Path,
    device: torch.device | str,
    dtype: torch.dtype,
    expected_sha256: str | None = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """Read a released folder. Raises CheckpointError (see the module's docstring)."""
    files = shards(folder)
    digest = check_digest(folder.name, digest_of(files), expected_sha256)
    tensors: dict[str, Tensor] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as opened:
                for key in opened.offset_keys():
                    tensors[our_key(key)] = placed(our_key(key), opened.get_tensor(key), device, dtype)
    except SafetensorError as error:
        raise CheckpointError(f"{folder} holds a damaged shard: {error}") from error
    raw = json.loads((folder / "config.json").read_text())
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    config = EurekaConfig(
        name=folder.resolve().name,
        version=str(raw.get("version", "0")),
        audio=audio_config(raw, tensors),
        adapter=adapter_config(raw, tensors),
        decoder=decoder_config(raw, tensors),
        tokens=tokenizer.ids,
        ctc=False,
        pad_to_30s=True,
        questions=CONFIGS["1.7b"].questions,
        decoding=CONFIGS["1.7b"].decoding,
    )
    check_tokens(config, tokenizer)
    if config.decoder.tie_embeddings:
        tensors.pop("decoder.lm_head.weight", None)
    wanted = adapter_keys(config)
    found = {key for key in tensors if key.startswith("audio_adapter.")}
    if wanted == found:
        return Loaded(build(config, tensors), tokenizer, config, digest)
    if not trust_remote_code:
        # Router and expert sizes are unknown for such an adapter: only the names can be compared.
        raise CheckpointError(
            mismatch(f"the adapter in {folder}", released_names(wanted), released_names(found))
            + "\n  --trust-remote-code runs the adapter by the Python code inside that folder; read it first."
        )
    remote = RemoteAdapter(remote_adapter(folder, dtype).to(device), config)
    parts = {key: value for key, value in tensors.items() if key not in found}
    parts |= {
        f"audio_adapter.{k}": v
        for k, v in MoEAdapter(config.adapter, config.audio.d_model).state_dict().items()
    }
    model = build(config, parts)
    model.audio_adapter = remote
    return Loaded(model.eval(), tokenizer, config, digest)


def shards(folder: Path) -> list[Path]:
    """The weight files of the folder: those of the index, or else the only one."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in [*names, "config.json", "tokenizer.json"]:
        # The names come from a file that was downloaded: they must not lead out of the folder.
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{folder} lacks {name}")
    return [folder / name for name in names]


def digest_of(files: list[Path]) -> str:
    """SHA-256 of the list of these files with a digest each, as `sha256sum` prints it."""
    listing = "".join(f"{sha256_of(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def our_key(key: str) -> str:
    for theirs, ours in ((ENCODER, "audio_encoder."), (ADAPTER, "audio_adapter."), (BACKBONE, "decoder.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    raise CheckpointError(f"unknown part of the released model: {key}")


def released_names(ours: set[str]) -> set[str]:
    return {ADAPTER + key.removeprefix("audio_adapter.") for key in ours}


def shape(tensors: dict[str, Tensor], key: str) -> list[int]:
    if key not in tensors:
        raise CheckpointError(f"the released model lacks {key}")
    return list(tensors[key].shape)


def count(tensors: dict[str, Tensor], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in tensors if key.startswith(prefix)})


def audio_config(raw: dict[str, Any], tensors: dict[str, Tensor]) -> AudioConfig:
    d_model, n_mels, _ = shape(tensors, "audio_encoder.conv1.weight")
    return AudioConfig(
        n_mels=n_mels,
        d_model=d_model,
        layers=count(tensors, "audio_encoder.layers."),
        heads=int(number(raw, "encoder_attention_heads")),
        ffn=shape(tensors, "audio_encoder.layers.0.fc1.weight")[0],
        positions=shape(tensors, "audio_encoder.embed_positions.weight")[0],
    )


def decoder_config(raw: dict[str, Any], tensors: dict[str, Tensor]) -> DecoderConfig:
    vocab, hidden = shape(tensors, "decoder.model.embed_tokens.weight")
    attention = "decoder.model.layers.0.self_attn."
    head_dim = shape(tensors, attention + "q_norm.weight")[0]
    head = tensors.get("decoder.lm_head.weight")
    return DecoderConfig(
        hidden=hidden,
        layers=count(tensors, "decoder.model.layers."),
        heads=shape(tensors, attention + "q_proj.weight")[0] // head_dim,
        kv_heads=shape(tensors, attention + "k_proj.weight")[0] // head_dim,
        head_dim=head_dim,
        ffn=shape(tensors, "decoder.model.layers.0.mlp.gate_proj.weight")[0],
        vocab=vocab,
        rope_theta=number(raw, "rope_theta"),
        rms_eps=number(raw, "rms_norm_eps"),
        tie_embeddings=head is None or torch.equal(head, tensors["decoder.model.embed_tokens.weight"]),
    )


def adapter_config(raw: dict[str, Any], tensors: dict[str, Tensor]) -> AdapterConfig:
    """From the shapes when the keys are ours; of an adapter with other keys only the output width is known."""
    out = shape(tensors, "decoder.model.embed_tokens.weight")[1]
    if "audio_adapter.w1" not in tensors:
        return AdapterConfig(experts=1, top_k=1, shared_experts=0, hidden=4, expert_out=4, out=out)
    experts, _, hidden = shape(tensors, "audio_adapter.w1")
    shared = tensors.get("audio_adapter.shared.w1.weight")
    return AdapterConfig(
        experts=experts,
        top_k=int(number(raw, "num_experts_per_tok")),
        shared_experts=0 if shared is None else shared.shape[0] // hidden,
        hidden=hidden,
        expert_out=shape(tensors, "audio_adapter.w2")[2],
        out=out,
    )


def adapter_keys(config: EurekaConfig) -> set[str]:
    with torch.device("meta"):
        adapter = MoEAdapter(config.adapter, config.audio.d_model)
    return {f"audio_adapter.{key}" for key in adapter.state_dict()}


def number(raw: dict[str, Any], name: str) -> float:
    """A number of `config.json`, at whatever depth. Raises CheckpointError when absent or ambiguous."""
    values = {value for key, value in items(raw) if key == name and isinstance(value, int | float)}
    if len(values) != 1:
        raise CheckpointError(
            f"config.json must give {name} exactly once, found {sorted(values) or 'nothing'}"
        )
    return float(values.pop())


def items(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in raw.items():
        yield key, value
        if isinstance(value, dict):
            yield from items(value)


def remote_adapter(folder: Path, dtype: torch.dtype) -> nn.Module:
    """The `audio_moe_adaptor` of the release's own model class, its weights in it."""
    from transformers import AutoModelForCausalLM  # slow to import, and only this option needs it

    whole = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, local_files_only=True, use_safetensors=True, dtype=dtype
    )
    adapter = getattr(whole, "audio_moe_adaptor", None)
    if not isinstance(adapter, nn.Module):
        raise CheckpointError(f"the code in {folder} builds no audio_moe_adaptor")
    return adapter.eval()


class RemoteAdapter(nn.Module):
    """The release's adapter behind the interface of ours: 4× concat here, the rest is its own code."""

    def __init__(self, inner: nn.Module, config: EurekaConfig) -> None:
        super().__init__()
        self.inner = inner
        self.config = dataclasses.replace(config.adapter)

    def forward(self, states_BLD: Tensor) -> tuple[Tensor, RouterStats]:
        batch, length, width = states_BLD.shape
        group = self.config.frames_per_token
        result = self.inner(states_BLD.reshape(batch, length // group, group * width))
        out_BNO = result[0] if isinstance(result, tuple) else result
        if not isinstance(out_BNO, Tensor) or out_BNO.shape != (batch, length // group, self.config.out):
            raise CheckpointError("the release's adapter does not map [B, n, 4·D] to [B, n, hidden]")
        # What its router did is not ours to see: one expert, always chosen.
        tokens = batch * (length // group)
        return out_BNO, RouterStats(out_BNO.new_ones(tokens, 1), torch.zeros(tokens, 1, dtype=torch.long))
