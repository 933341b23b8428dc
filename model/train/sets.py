"""Sets of training data with a manifest: single clips as they were spoken, and composed scenes.

In: folders of synthetic speech (synthesise.py), the Asterisk prompts, recordings of sounds; a count and a seed. Out:
`clips.jsonl`; or `scenes.jsonl`, `scenes/*.wav` (16 bit, one or two channels) and `truth.jsonl`, one scene's truth a
line. Knows no model. `python -m model.train.sets --help`.
Invariants: a scene is a pure function of its number, the seed and the entries; every line of a manifest has a licence
and names sources that have a data card; no held-out voice, text or recording is in a set.
"""

import argparse
import json
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.train import cards, sources, telling
from model.train.audio import RATE_HZ, to_int16
from model.train.manifest import Sample, write
from model.train.sounds import Recordings, load_recordings
from model.train.sources import Entry
from model.train.synthesis import Scene, Speaker, compose
from model.train.voices import people
from model.train.windows import QUESTIONS

MOST_SPEAKERS, MOST_TURNS = 3, 3
ALONE = 0.2
HELD_OUT_FOLDERS = "test-"
SCENE_S = 26.0


def clip_samples(entries: Sequence[Entry]) -> list[Sample]:
    """Transcript and, where they are known, voice and pace of every entry that is a single file."""
    found: list[Sample] = []
    for entry in entries:
        if len(entry.audio) > 1:
            continue
        common = {
            "audio": entry.audio[0].absolute(),
            "language": "en",
            "licence": cards.licence(entry.sources),
            "source": ", ".join(entry.sources),
        }
        found.append(Sample.model_validate({"task": "asr", "prompt": "", "answer": entry.text, **common}))
        known = {"voice": entry.sex, "pace": entry.pace}
        for question in QUESTIONS:
            if (answer := known.get(question.name)) is not None:
                asked = {"prompt": question.prompt, "choices": question.choices, "answer": answer}
                found.append(Sample.model_validate({"task": "paralinguistic", **asked, **common}))
    return found


def draw_scene(entries: Sequence[Entry], recordings: Recordings, rng: np.random.Generator) -> Scene:
    """One to three people, no one twice under two voices, with up to three utterances each."""
    mine: dict[str, list[Entry]] = {}
    for entry in entries:
        mine.setdefault(entry.voice, []).append(entry)
    count = 1 if rng.random() < ALONE else int(rng.integers(2, MOST_SPEAKERS + 1))
    cast: list[str] = []
    for voice in rng.choice(list(mine), min(2 * count, len(mine)), replace=False):
        if len(cast) < count and not any(people(voice) & people(other) for other in cast):
            cast.append(str(voice))
    speakers = []
    for number, voice in enumerate(cast):
        turns = rng.choice(
            len(mine[voice]), min(len(mine[voice]), int(rng.integers(1, MOST_TURNS + 1))), False
        )
        said = tuple(sources.load(mine[voice][turn]) for turn in turns)
        speakers.append(Speaker("ABC"[number], said))
    return compose(speakers, recordings, rng, longest_s=SCENE_S)


def write_scenes(
    out: Path, entries: Sequence[Entry], recordings: Recordings, count: int, seed: int
) -> list[Sample]:
    """Compose scenes and write their audio, truths and manifest. ValueError without entries."""
    if not entries:
        raise ValueError("no speech to compose scenes of")
    folder = out / "scenes"
    folder.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    with (out / "truth.jsonl").open("w", encoding="utf-8") as truths:
        for number in range(count):
            scene = draw_scene(entries, recordings, np.random.default_rng([seed, number]))
            path = folder / f"scene-{seed}-{number:06d}.wav"
            _write_wav(path, scene)
            truths.write(json.dumps({"audio": f"scenes/{path.name}", **scene.truth.as_dict()}) + "\n")
            samples += telling.samples(scene.truth, path.absolute())
    write(out / "scenes.jsonl", samples)
    return samples


def _write_wav(path: Path, scene: Scene) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(scene.audio_CN))
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(to_int16(scene.audio_CN).T.astype("<i2").tobytes())


def training_entries(work: Path, asterisk: Path) -> list[Entry]:
    """What was synthesised for training under WORK/speech, and the Asterisk prompts."""
    folders = sorted(
        path for path in (work / "speech").glob("*") if not path.name.startswith(HELD_OUT_FOLDERS)
    )
    return [entry for folder in folders for entry in sources.synthetic(folder)] + sources.asterisk(asterisk)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.train.sets", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "what", choices=("clips", "scenes"), help="a manifest of the clips; scenes with theirs"
    )
    parser.add_argument("--work", type=Path, required=True, help="the folder that the training works in")
    parser.add_argument("--data", type=Path, required=True, help="the folder with the public data")
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    parser.add_argument("--count", type=int, default=1000, help="scenes to make; default: 1000")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other scenes; default: 1")
    try:
        _make(parser.parse_args(argv))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _make(arguments: argparse.Namespace) -> None:
    entries = training_entries(arguments.work, arguments.data / "asterisk")
    if arguments.what == "clips":
        print(f"{write(arguments.out / 'clips.jsonl', clip_samples(entries))} lines")
        return
    esc10 = arguments.data / "esc10"
    recordings = load_recordings(
        arguments.data / "asterisk", esc10 if esc10.exists() else None, held_out=False
    )
    made = write_scenes(arguments.out, entries, recordings, arguments.count, arguments.seed)
    print(f"{arguments.count} scenes, {len(made)} lines")


if __name__ == "__main__":
    main()
