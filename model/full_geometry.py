"""Proof that the full 1.7B geometry builds, loads and answers on a CPU: `python -m model.full_geometry`.

In: nothing (weights are random). Out: one line per step with seconds and memory, exit status 0 when a window was
answered. It writes a checkpoint of the released layout (about 5 GB of bfloat16 in shards) into a temporary folder,
reads it back as fp32 (about 9 GB) and asks it for a transcript, a caption and every question.
Does not know the released weights: the answers mean nothing, only that every part ran in its true size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from model import checkpoint, device, prompts, tokenizer
from model.answers import Request
from model.config import CONFIGS, EurekaConfig
from model.engine import Engine
from model.eureka import Eureka
from model.features import SAMPLE_RATE_HZ
from model.released import ADAPTER, BACKBONE, ENCODER

SHARD_BYTES = 1 << 30
NEW_TOKENS = 4  # a token takes about a second in this size on two cores


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="where the temporary checkpoint goes (5 GB)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the window, at most 30")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        started_s = time.monotonic()
        parameters = write_random(folder, CONFIGS["1.7b"])
        report(
            "%.2f G parameters written in %d shards"
            % (parameters / 1e9, len(list(folder.glob("*.safetensors")))),
            started_s,
        )
        started_s = time.monotonic()
        loaded = checkpoint.load(folder)
        report("loaded as fp32, sha256 %s" % loaded.sha256[:8], started_s)
    decoding = dataclasses.replace(loaded.config.decoding, max_new_tokens=NEW_TOKENS)
    loaded = dataclasses.replace(loaded, config=dataclasses.replace(loaded.config, decoding=decoding))
    engine = Engine(loaded, device.choose("cpu", slots=1), threads=torch.get_num_threads())
    noise = np.random.default_rng(0).normal(0, 3000, int(arguments.seconds * SAMPLE_RATE_HZ))
    tasks = ("transcript", "caption", "questions:speech", "questions:scene")
    started_s = time.monotonic()
    (response,) = engine.run([Request("window", noise.astype(np.int16), tasks)])
    report("one window of %.1f s: %d answers" % (arguments.seconds, len(response.answers)), started_s)
    if response.error is not None:
        sys.stderr.write("error: %s\n" % response.error)
    return 0 if response.error is None else 1


def report(what: str, started_s: float) -> None:
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sys.stdout.write("%-60s %6.1f s, peak %.1f GB\n" % (what, time.monotonic() - started_s, peak_gb))
    sys.stdout.flush()


def write_random(folder: Path, config: EurekaConfig) -> int:
    """A folder of the released layout with random weights, shard by shard. Returns the number of parameters."""
    with torch.device("meta"):
        shapes = checkpoint.stored(Eureka(config))
    weight_map: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    names = {"audio_encoder.": ENCODER, "audio_adapter.": ADAPTER, "decoder.": BACKBONE}
    for index, (key, meta) in enumerate(shapes.items()):
        part = key.split(".")[0] + "."
        shard[names[part] + key.removeprefix(part)] = random_tensor(key, meta)
        last = index == len(shapes) - 1
        if last or sum(tensor.nbytes for tensor in shard.values()) >= SHARD_BYTES:
            name = "model-%05d.safetensors" % (len(set(weight_map.values())) + 1)
            save_file(shard, folder / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, name)
            shard = {}
    index_json = json.dumps({"metadata": {}, "weight_map": weight_map})
    (folder / "model.safetensors.index.json").write_text(index_json)
    raw = {
        "encoder_attention_heads": config.audio.heads,
        "rope_theta": config.decoder.rope_theta,
        "rms_norm_eps": config.decoder.rms_eps,
        "num_experts_per_tok": config.adapter.top_k,
    }
    (folder / "config.json").write_text(json.dumps(raw))
    # The release's tokenizer is not here; any byte-level one with the special tokens can write the prompts.
    small = tokenizer.train([prompts.ASR_SYSTEM, prompts.CAPTION_REQUEST], vocab_size=300)
    (folder / "tokenizer.json").write_text(small.to_json())
    return sum(meta.numel() for meta in shapes.values())


def random_tensor(key: str, meta: Tensor) -> Tensor:
    """Small random weights; norms start at one, so that the signal keeps its size through all layers."""
    if meta.ndim == 1:
        ones = key.endswith("norm.weight")
        return torch.ones(meta.shape, dtype=torch.bfloat16) * float(ones)
    return torch.empty(meta.shape, dtype=torch.bfloat16).normal_(std=0.02)


if __name__ == "__main__":
    sys.exit(main())
