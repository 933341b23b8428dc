"""Encoder states of training windows, computed once, up to the layers that are trained.

In: entries or sounds, the frozen encoder. Out: shards of `shard-*.safetensors`: `states` [all frames, D] fp16, and in
the metadata a JSON list of what each window holds and how many frames are its own. The lower layers are frozen,
so augmentation happens before them and one window costs its encoding once.
Invariant: an entry that a shard of the folder already holds is not made again, so the run may be stopped and continued;
shards appear whole.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model.encoder import WhisperEncoder
from model.features import log_mel
from model.processor import has_bf16
from model.train import sources, windows
from model.train.audio import RATE_HZ, Wave, to_int16
from model.train.sounds import Recordings, SoundClass
from model.train.sources import Entry
from model.train.windows import Window

WINDOWS_PER_SHARD = 100
# The last layers of the encoder are trained too, so what is cached is the input of the first of them.
LIVE_LAYERS = 2
LONGEST_S = 25.0
JOIN_SHARE = 0.3
MIXED_SHARE = 0.06
SOUND_SHARES: dict[SoundClass, float] = {"music": 0.3, "tones": 0.22, "noise": 0.33, "silence": 0.15}


@dataclass(frozen=True)
class Item:
    """One cached window without its states. `frames` is its number of encoder frames (20 ms)."""

    identity: str
    frames: int
    text: str | None
    caption: str | None
    answers: dict[str, str]
    origin: str


@torch.inference_mode()
def encode(encoder: WhisperEncoder, wave: Wave, n_mels: int) -> Tensor:
    """int16 or float waveform → what the encoder's last LIVE_LAYERS get, [L, D] fp16, L a multiple of 4."""
    audio = torch.from_numpy(to_int16(wave).astype(np.float32) / 32768)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
        states: Tensor = encoder.below(log_mel(audio, n_mels)[None], None, LIVE_LAYERS)[0]
    return states.to(torch.float16)


def speech_windows(
    entries: Sequence[Entry], done: set[str], recordings: Recordings, seed: int
) -> Iterator[tuple[str, Window, str]]:
    """Windows of the entries not done yet; some join several entries of one voice, some hold a sound beside speech."""
    rng = np.random.default_rng(seed)
    waiting: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.identity not in done:
            waiting.setdefault(entry.voice, []).append(entry)
    order = [voice for voice, mine in waiting.items() for _ in mine]
    rng.shuffle(order)
    for voice in order:
        if not waiting[voice]:
            continue
        group = [waiting[voice].pop()]
        joins = int(rng.integers(1, 4)) if rng.random() < _join_share(group[0]) else 0
        utterances = [sources.load(group[0])]
        while joins > 0 and waiting[voice] and _seconds(utterances) < 12:
            group.append(waiting[voice].pop())
            utterances.append(sources.load(group[-1]))
            joins -= 1
        if len(group) == 1 and rng.random() < MIXED_SHARE:
            kind: SoundClass = rng.choice(list(SOUND_SHARES))
            window = windows.mixed_window(utterances[0], kind, recordings, rng)
        else:
            window = windows.speech_window(utterances, recordings, rng)
        origin = group[0].origin
        if origin == "digits":
            # The takes are 8 kHz whatever line they went through here, and the caption would say otherwise.
            window = Window(
                window.wave, window.text, None, {k: v for k, v in window.answers.items() if k != "line"}
            )
        yield "|".join(entry.identity for entry in group), window, origin


def _join_share(entry: Entry) -> float:
    return 0.7 if len(entry.text.split()) <= 3 else JOIN_SHARE


def _seconds(utterances: Sequence[windows.Utterance]) -> float:
    return sum(len(u.wave) for u in utterances) / RATE_HZ


def sound_windows(
    count: int, done: set[str], recordings: Recordings, seed: int
) -> Iterator[tuple[str, Window, str]]:
    """Windows without speech, 0.6–14 s long."""
    kinds = list(SOUND_SHARES)
    for i in range(count):
        identity = f"sound-{seed}-{i:05d}"
        if identity in done:
            continue
        rng = np.random.default_rng([seed, i])
        kind: SoundClass = rng.choice(kinds, p=list(SOUND_SHARES.values()))
        samples = int(rng.choice((rng.uniform(0.6, 4), rng.uniform(4, 14))) * RATE_HZ)
        yield identity, windows.sound_window(kind, samples, recordings, rng), "sound"


def write_shards(
    out: Path, prefix: str, made: Iterable[tuple[str, Window, str]], encoder: WhisperEncoder, n_mels: int
) -> int:
    """Encode windows and write them in shards; returns how many windows."""
    out.mkdir(parents=True, exist_ok=True)
    number, total = len(list(out.glob(f"{prefix}-*.safetensors"))), 0
    items: list[Item] = []
    states: list[Tensor] = []
    for identity, window, origin in made:
        if not 0.3 * RATE_HZ <= len(window.wave) <= LONGEST_S * RATE_HZ:
            continue
        states.append(encode(encoder, window.wave, n_mels))
        items.append(Item(identity, len(states[-1]), window.text, window.caption, window.answers, origin))
        total += 1
        if len(items) == WINDOWS_PER_SHARD:
            _write(out / f"{prefix}-{number:05d}.safetensors", items, states)
            number, items, states = number + 1, [], []
    if items:
        _write(out / f"{prefix}-{number:05d}.safetensors", items, states)
    return total


def _write(path: Path, items: list[Item], states: list[Tensor]) -> None:
    partial = path.with_suffix(".part")
    metadata = {"items": json.dumps([asdict(item) for item in items])}
    save_file({"states": torch.cat(states)}, partial, metadata)
    partial.rename(path)


def read_items(path: Path) -> list[Item]:
    """What a shard holds."""
    with safe_open(path, "pt") as shard:
        return [Item(**raw) for raw in json.loads(shard.metadata()["items"])]


def read_shard(path: Path) -> list[tuple[Item, Tensor]]:
    """A shard's windows with their states [frames, D] fp16."""
    items = read_items(path)
    with safe_open(path, "pt") as shard:
        pieces = shard.get_tensor("states").split([item.frames for item in items])
    return list(zip(items, pieces, strict=True))


def done_identities(folder: Path) -> set[str]:
    """Identities of every entry that a shard of the folder holds."""
    return {
        part
        for path in folder.glob("*.safetensors")
        for item in read_items(path)
        for part in item.identity.split("|")
    }
