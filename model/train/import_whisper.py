"""Read the Whisper base encoder out of a CTranslate2 model file.

In: `model.bin` (or its parts, in order). Out: the encoder's state dict with transformers' key names, fp16.
Knows nothing of the decoder beyond its names. Invariant: every encoder variable of the file is used, and nothing is
made up except the key projections' missing biases, which Whisper does not have either.

File format, little-endian: u32 version; name (u16 length with the closing NUL); u32 revision; u32 count; then per
variable: name, u8 rank, u32 dimensions, u8 type, u32 bytes, data; then aliases.
"""

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Whisper base as published for faster-whisper; both ends of the digest that was pinned publicly.
BASE_SHA256_ENDS = ("d01c3014", "a6a9")
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class WhisperFileError(Exception):
    """The file is no CTranslate2 model, or not the one expected."""


def read_variables(parts: Sequence[Path]) -> dict[str, Tensor]:
    """All variables of the joined file, by CTranslate2's names. Raises WhisperFileError."""
    if not parts:
        raise WhisperFileError("no file of Whisper base: whisper/model.bin* in the data folder")
    data = b"".join(part.read_bytes() for part in parts)
    digest = hashlib.sha256(data).hexdigest()
    if not (digest.startswith(BASE_SHA256_ENDS[0]) and digest.endswith(BASE_SHA256_ENDS[1])):
        raise WhisperFileError(f"sha256 {digest} is not that of Whisper base")
    return parse_variables(data)


def parse_variables(data: bytes) -> dict[str, Tensor]:
    """The variables of a CTranslate2 file's bytes. Raises WhisperFileError when it ends early."""
    try:
        position = 4
        _, position = _name(data, position)
        _, count = struct.unpack_from("<II", data, position)
        position += 8
        found: dict[str, Tensor] = {}
        for _ in range(count):
            name, position = _name(data, position)
            rank = data[position]
            shape = struct.unpack_from(f"<{rank}I", data, position + 1)
            position += 1 + 4 * rank
            dtype, size = struct.unpack_from("<BI", data, position)
            position += 5
            array = np.frombuffer(data[position : position + size], DTYPES[dtype])
            found[name] = torch.from_numpy(array.reshape(shape).copy())
            position += size
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise WhisperFileError(f"not a CTranslate2 model: {error}") from error
    return found


def _name(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", data, position)
    return data[position + 2 : position + 2 + length].rstrip(b"\0").decode(), position + 2 + length


def encoder_state(variables: dict[str, Tensor]) -> dict[str, Tensor]:
    """CTranslate2's encoder variables under the names of transformers' WhisperEncoder."""
    left = {
        name[8:]: value for name, value in variables.items() if name.startswith("encoder/") and value.ndim
    }
    state = {"embed_positions.weight": left.pop("position_encodings/encodings")}
    for name in ("conv1", "conv2"):
        state |= {f"{name}.weight": left.pop(f"{name}/weight"), f"{name}.bias": left.pop(f"{name}/bias")}
    _norm(state, left, "layer_norm", "layer_norm")
    for layer in range(sum(name.endswith("ffn/linear_0/weight") for name in left)):
        old, new = f"layer_{layer}", f"layers.{layer}"
        _norm(state, left, f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
        _norm(state, left, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
        # Query, key and value are one matrix in the file.
        weights = left.pop(f"{old}/self_attention/linear_0/weight").chunk(3)
        biases = left.pop(f"{old}/self_attention/linear_0/bias").chunk(3)
        for projection, weight, bias in zip("qkv", weights, biases, strict=True):
            state[f"{new}.self_attn.{projection}_proj.weight"] = weight
            if projection != "k":
                state[f"{new}.self_attn.{projection}_proj.bias"] = bias
            elif bias.abs().max() > 0:
                raise WhisperFileError("the key projection has a bias")
        for old_part, new_part in (
            ("self_attention/linear_1", "self_attn.out_proj"),
            ("ffn/linear_0", "fc1"),
            ("ffn/linear_1", "fc2"),
        ):
            state[f"{new}.{new_part}.weight"] = left.pop(f"{old}/{old_part}/weight")
            state[f"{new}.{new_part}.bias"] = left.pop(f"{old}/{old_part}/bias")
    if left:
        raise WhisperFileError(f"unknown encoder variables: {sorted(left)}")
    return {name: value.contiguous() for name, value in state.items()}


def _norm(state: dict[str, Tensor], left: dict[str, Tensor], old: str, new: str) -> None:
    state[f"{new}.weight"] = left.pop(f"{old}/gamma")
    state[f"{new}.bias"] = left.pop(f"{old}/beta")
