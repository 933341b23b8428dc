"""Where utterances come from: synthetic clips, the Asterisk prompts, read speech, spoken digits.

In: folders. Out: `Entry` records that name the audio and what is known of it; `load` decodes one.
Knows no augmentation. Invariant: no entry comes from the Asterisk test fifth nor from the held-out digit speaker.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.evaluate.holdout import is_test, prompts, speakable
from model.train.audio import Wave, read, trim
from model.train.spoken import ONES, plain
from model.train.synthesis import Utterance

HELD_OUT_DIGIT_SPEAKER = "theo"
LONGEST_S = 24.0


@dataclass(frozen=True)
class Entry:
    """`voice` groups entries that may be joined in one window; `audio` are files to be heard one after the other.

    `source` and `text_source` name the data cards of the voice and of the text, where it has one of its own.
    """

    identity: str
    audio: tuple[Path, ...]
    text: str
    voice: str
    sex: str | None
    pace: str | None
    origin: str
    source: str
    text_source: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The data cards that the entry comes from."""
        return tuple(name for name in (self.source, self.text_source) if name)


def load(entry: Entry) -> Utterance:
    """Decode, cut the silence at both ends, join the parts with short pauses."""
    pieces: list[Wave] = []
    for path in entry.audio:
        pieces += [trim(read(path)), np.zeros(1600, np.float32)]
    return Utterance(
        np.concatenate(pieces[:-1]),
        entry.text,
        entry.sex,
        entry.pace,
        entry.origin,
        entry.voice,
        entry.source,
        entry.text_source,
    )


def synthetic(folder: Path) -> list[Entry]:
    """Clips of a synthesis folder, as far as its manifest lists them."""
    return [
        Entry(
            item["id"],
            (folder / item["audio"],),
            item["text"],
            f"{item['program']}/{item['voice']}",
            item["sex"],
            item["pace"],
            item["source"],
            item["program"],
            item["text_source"],
        )
        for item in listed(folder)
        if item["seconds"] <= LONGEST_S
    ]


def listed(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a synthesis folder's manifest: the last one may still be under way, or be a killed run's."""
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        return []
    whole = manifest.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def asterisk(data: Path) -> list[Entry]:
    """The training four fifths of the prompts; one woman's voice. Files that hold no speech are left out."""
    return [
        Entry(
            f"asterisk-{path.parent.name}-{path.stem}",
            (path,),
            plain(speakable(text)),
            "allison",
            "female",
            None,
            "asterisk",
            "asterisk-prompts",
        )
        for path, text in sorted(prompts(data).items())
        if not is_test(text) and path.parent.name != "silence" and path.stem != "vm-intro"
    ]


def read_speech(index: Path) -> list[Entry]:
    """Read speech with pseudo-labels: short enough, at a believable rate; the voice as `label_voices` says."""
    entries = []
    for item in json.loads(index.read_text(encoding="utf-8")):
        text = plain(item["text"])
        letters_per_s = len(text) / item["seconds"]
        if item["seconds"] <= LONGEST_S and 8 <= letters_per_s <= 22:
            path = index.parent / item["file"]
            entries.append(
                Entry(
                    f"read-{path.stem}",
                    (path,),
                    text,
                    f"read/{path.stem}",
                    item.get("sex"),
                    None,
                    "read",
                    "librispeech",
                )
            )
    return entries


def spoken_digits(folder: Path, count: int, seed: int) -> list[Entry]:
    """Strings of 2–8 digits of one speaker, put together from single takes (`digit_speaker_take`); all are men."""
    rng = random.Random(seed)
    takes: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.flac")):
        takes.setdefault(path.stem.split("_")[1], []).append(path)
    speakers = sorted(set(takes) - {HELD_OUT_DIGIT_SPEAKER})
    entries = []
    for i in range(count):
        speaker = rng.choice(speakers)
        chosen = tuple(rng.choices(takes[speaker], k=rng.randint(2, 8)))
        text = " ".join(ONES[int(path.stem[0])] for path in chosen)
        entries.append(
            Entry(f"digits-{i:05d}", chosen, text, f"digits/{speaker}", "male", None, "digits", "fsdd")
        )
    return entries
