"""Encoder states of training windows, computed once, up to the layers that are trained.

In: windows, the encoder, how many of its last layers are trained. Out: shards of `shard-*.safetensors`: `states`
[all rows, D] fp16, and in the metadata a JSON list of what each window holds and how many frames are its own. The lower
layers are frozen, so augmentation happens before them and one window costs its encoding once. When the whole encoder is
trained, the rows are log-mels [all mel frames, M].
Invariant: an entry that a shard of the folder already holds is not made again, so the run may be stopped and continued;
shards appear whole.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

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
from model.train.manifest import Task
from model.train.sounds import Recordings, SoundClass
from model.train.sources import Entry
from model.train.windows import Window

# How many of the encoder's last layers may be trained: what is cached is the input of the first of them.
Live = int | Literal["all"]
WINDOWS_PER_SHARD = 100
SHORTEST_S, LONGEST_S = 0.3, 25.0
JOIN_SHARE = 0.3
MIXED_SHARE = 0.06
SOUND_SHARES: dict[SoundClass, float] = {"music": 0.3, "tones": 0.22, "noise": 0.33, "silence": 0.15}


@dataclass(frozen=True)
class Asked:
    """What a manifest asks of a window (`model.train.manifest`)."""

    task: Task
    prompt: str
    answer: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One window without its states. `frames` is its number of encoder frames (20 ms).

    `text` are the words that CTC learns, None where they are not known. The decoder is asked what `asked` says; where
    that is empty, for the transcript `text`, the `caption` and the closed questions of `answers`.
    """

    identity: str
    frames: int
    text: str | None
    caption: str | None
    answers: dict[str, str]
    origin: str
    asked: tuple[Asked, ...] = ()


@torch.no_grad()
def encode(encoder: WhisperEncoder, wave: Wave, live: Live) -> Tensor:
    """What the encoder's `live` last layers get of a waveform: [L, D] fp16, L a multiple of 4; log-mel [2 L, M] for
    "all". On the CPU, wherever the encoder is."""
    device = encoder.conv1.weight.device
    audio = torch.from_numpy(to_int16(wave).astype(np.float32) / 32768).to(device)
    mel_MT = log_mel(audio, encoder.config.n_mels)
    if live == "all":
        return mel_MT.T.to("cpu", torch.float16).contiguous()
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or has_bf16()):
        states_LD: Tensor = encoder.below(mel_MT[None], None, live)[0]
    return states_LD.to("cpu", torch.float16)


def frames_of(states: Tensor, live: Live) -> int:
    """Encoder frames of what `encode` returned."""
    return len(states) // 2 if live == "all" else len(states)


def speech_windows(
    entries: Sequence[Entry], done: set[str], recordings: Recordings, seed: int | Sequence[int]
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
    numbers: Iterable[int], done: set[str], recordings: Recordings, seed: int
) -> Iterator[tuple[str, Window, str]]:
    """A window without speech, 0.6–14 s long, for each of these numbers."""
    kinds = list(SOUND_SHARES)
    for i in numbers:
        identity = f"sound-{seed}-{i:05d}"
        if identity in done:
            continue
        rng = np.random.default_rng([seed, i])
        kind: SoundClass = rng.choice(kinds, p=list(SOUND_SHARES.values()))
        samples = int(rng.choice((rng.uniform(0.6, 4), rng.uniform(4, 14))) * RATE_HZ)
        yield identity, windows.sound_window(kind, samples, recordings, rng), "sound"


def of_fit_length(made: Iterable[tuple[str, Window, str]]) -> Iterator[tuple[str, Window, str]]:
    """The windows that are neither very short nor very long."""
    for identity, window, origin in made:
        if SHORTEST_S * RATE_HZ <= len(window.wave) <= LONGEST_S * RATE_HZ:
            yield identity, window, origin


def write_shards(
    out: Path, prefix: str, made: Iterable[tuple[str, Window, str]], encoder: WhisperEncoder, live: Live
) -> int:
    """Encode windows and write them in shards; returns how many windows."""
    out.mkdir(parents=True, exist_ok=True)
    number, total = len(list(out.glob(f"{prefix}-*.safetensors"))), 0
    items: list[Item] = []
    states: list[Tensor] = []
    for identity, window, origin in made:
        states.append(encode(encoder, window.wave, live))
        frames = frames_of(states[-1], live)
        items.append(Item(identity, frames, window.text, window.caption, window.answers, origin))
        total += 1
        if len(items) == WINDOWS_PER_SHARD:
            write_shard(out / f"{prefix}-{number:05d}.safetensors", items, states)
            number, items, states = number + 1, [], []
    if items:
        write_shard(out / f"{prefix}-{number:05d}.safetensors", items, states)
    return total


def write_shard(path: Path, items: Sequence[Item], states: Sequence[Tensor]) -> None:
    """One shard, whole or not at all."""
    partial = path.with_suffix(".part")
    metadata = {"items": json.dumps([asdict(item) for item in items])}
    save_file({"states": torch.cat(list(states))}, partial, metadata)
    partial.rename(path)


def read_items(path: Path) -> list[Item]:
    """What a shard holds."""
    with safe_open(path, "pt") as shard:
        raws = json.loads(shard.metadata()["items"])
    return [Item(**raw | {"asked": tuple(Asked(**asked) for asked in raw.get("asked", ()))}) for raw in raws]


def done_identities(folder: Path) -> set[str]:
    """Identities of every entry that a shard of the folder holds."""
    return {
        part
        for path in folder.glob("*.safetensors")
        for item in read_items(path)
        for part in item.identity.split("|")
    }
