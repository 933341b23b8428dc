"""Speak a plan with the command-line voices: flite, espeak-ng, festival, SVOX Pico, RHVoice.

In: the lines of a plan (plan.py). Out: one WAV per line in a folder and a manifest of what was made. The neural
voices have scripts of their own (speak_kokoro.py, speak_piper.py) because they need packages this project does not.
Knows no augmentation. Invariant: what the manifest lists is whole; a clip that it does not list is made (again), so
the run may be stopped at any moment, killed even, and continued.
"""

import json
import os
import subprocess
import wave
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from model.train.share import Share

FESTIVAL_BATCH = 25
ESPEAK_WORDS_PER_MINUTE = 165
COMMAND_LIMIT_S = 120.0
WHOLE = Share()


class SynthesisError(Exception):
    """A speech program failed or made no audio."""


def speak(plan: Path, out: Path, share: Share = WHOLE) -> int:
    """Make every clip of a share of a plan of one program; returns how many were made now. Raises SynthesisError."""
    out.mkdir(parents=True, exist_ok=True)
    listed = listed_clips(out / "manifest.jsonl")
    items = [json.loads(line) for line in share.take(plan.read_text(encoding="utf-8").splitlines())]
    missing = [item for item in items if item["id"] not in listed]
    with (out / "manifest.jsonl").open("a", encoding="utf-8") as manifest:
        for start in range(0, len(missing), FESTIVAL_BATCH):
            batch = missing[start : start + FESTIVAL_BATCH]
            _speak_batch(batch, out)
            for item in batch:
                path = out / f"{item['id']}.wav"
                manifest.write(json.dumps({**item, "audio": path.name, "seconds": _seconds(path)}) + "\n")
            manifest.flush()
    return len(missing)


def listed_clips(manifest: Path) -> set[str]:
    """The ids that a manifest lists. A last line that a killed run left unfinished is cut off."""
    if not manifest.exists():
        return set()
    whole, _, torn = manifest.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(manifest, len(whole) + 1 if whole else 0)
    return {json.loads(line)["id"] for line in whole.splitlines()}


def _speak_batch(batch: list[dict[str, Any]], out: Path) -> None:
    programs = {item["program"] for item in batch}
    if programs == {"festival"}:
        _festival(batch, out)
    elif programs <= COMMANDS.keys():
        for item in batch:
            path = out / f"{item['id']}.wav"
            _run(COMMANDS[item["program"]](item, path), item["text"])
    else:
        raise SynthesisError(f"no command-line program speaks {sorted(programs)}")


def flite_command(item: Mapping[str, Any], path: Path) -> list[str]:
    """duration_stretch is the inverse of the speed factor."""
    stretch = f"duration_stretch={1 / item['rate']:.3f}"
    return ["flite", "-voice", item["voice"], "--setf", stretch, "-t", item["text"], "-o", str(path)]


def espeak_command(item: Mapping[str, Any], path: Path) -> list[str]:
    pitch = 35 + _spread(item) % 31
    speed = round(ESPEAK_WORDS_PER_MINUTE * item["rate"])
    return [
        "espeak-ng",
        "-v",
        item["voice"],
        "-s",
        str(speed),
        "-p",
        str(pitch),
        "-w",
        str(path),
        item["text"],
    ]


def pico_command(item: Mapping[str, Any], path: Path) -> list[str]:
    """Speed and pitch are marks in the text, in per cent."""
    marks = f'<speed level="{round(100 * item["rate"])}"><pitch level="{85 + _spread(item) % 31}">'
    return ["pico2wave", "-l", item["voice"], "-w", str(path), f"{marks}{item['text']}</pitch></speed>"]


def rhvoice_command(item: Mapping[str, Any], path: Path) -> list[str]:
    """Reads the text from its input; speed and pitch in per cent."""
    speed, pitch = str(round(100 * item["rate"])), str(85 + _spread(item) % 31)
    return ["RHVoice-test", "-p", item["voice"], "-r", speed, "-t", pitch, "-o", str(path)]


def _spread(item: Mapping[str, Any]) -> int:
    """A number that follows from the id, so that one voice is heard at several heights."""
    return sum(item["id"].encode())


COMMANDS: Mapping[str, Callable[[Mapping[str, Any], Path], list[str]]] = {
    "flite": flite_command,
    "espeak": espeak_command,
    "pico": pico_command,
    "rhvoice": rhvoice_command,
}


def _festival(batch: Iterable[Mapping[str, Any]], out: Path) -> None:
    """One festival process for the batch: it takes a second to start."""
    lines = []
    for item in batch:
        path = out / f"{item['id']}.wav"
        lines += [
            f"(voice_{item['voice']})",
            f"(Parameter.set 'Duration_Stretch {1 / item['rate']:.3f})",
            f'(utt.save.wave (utt.synth (Utterance Text "{item["text"]}")) "{path}" \'riff)',
        ]
    _run(["festival", "--pipe"], "\n".join(lines))


def _run(command: list[str], stdin: str | None = None) -> None:
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )
    except FileNotFoundError as error:
        raise SynthesisError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise SynthesisError(f"{command[0]} failed: {done.stderr.strip()[:300]}")


def _seconds(path: Path) -> float:
    """Length of a WAV. Raises SynthesisError when there is none."""
    try:
        with wave.open(str(path), "rb") as wav:
            return wav.getnframes() / wav.getframerate()
    except (FileNotFoundError, EOFError, wave.Error) as error:
        raise SynthesisError(f"no audio at {path}: {error}") from error
