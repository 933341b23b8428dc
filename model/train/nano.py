"""The recipe of the nano checkpoint, step by step; every step can be stopped and run again.

In: `Folders`: where the public data lies and where to work. Out: model/checkpoints/nano.safetensors or another path.
Knows no details of any step: this file is the order of things and the amounts.
Invariant: `run` does the steps in the order of STEPS, and each leaves files that the next one reads.
"""

import json
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.adapter import MoEAdapter
from model.config import CONFIGS
from model.train import build, cache, import_whisper, loop, sounds, sources, synthesise, threshold
from model.train.batches import load_examples
from model.train.loop import TrainConfig
from model.train.plan import write_plans
from model.train.voices import Program

STEPS = ("import-whisper", "plan", "synthesise", "features", "fit", "export")
# Clips per program. Kokoro and Piper are optional: without their files the others speak alone.
CLIPS: dict[Program, int] = {"kokoro": 6000, "piper": 2500, "flite": 7000, "festival": 1200, "espeak": 6500}
# How often a source is augmented anew: the few natural voices more often than the many robotic ones.
ASTERISK_PASSES, KOKORO_PASSES = 3, 3
SOUND_WINDOWS = 900
DIGIT_STRINGS = 300
SEED = 1
CTC_STEPS, DECODER_STEPS = 5700, 2750
THRESHOLD_SHARDS = 24


@dataclass(frozen=True)
class Folders:
    """Public data (README.md) and the folder to work in. None: that source is left out."""

    work: Path
    whisper_parts: tuple[Path, ...]
    asterisk: Path
    sentences: Path
    wordnet: Path | None = None
    esc10: Path | None = None
    digits: Path | None = None
    read_speech: Path | None = None
    kokoro: Path | None = None  # folder: kokoro.onnx, voices/
    piper: Path | None = None  # the voice's ONNX file
    neural_python: Path | None = None  # a Python with onnxruntime, scipy, piper-tts

    @property
    def encoder(self) -> Path:
        return self.work / "whisper-base-encoder.safetensors"

    @property
    def features(self) -> Path:
        return self.work / "features"

    @property
    def run(self) -> Path:
        return self.work / "run"


@dataclass(frozen=True)
class Recipe:
    """Amounts that a smaller trial may turn down."""

    clips: dict[Program, int] = field(default_factory=lambda: dict(CLIPS))
    stages: tuple[TrainConfig, ...] = field(default_factory=lambda: stages(CTC_STEPS, DECODER_STEPS))
    threads: int = 2
    start: Path | None = None  # a checkpoint to go on from


def stages(ctc_steps: int, decoder_steps: int) -> tuple[TrainConfig, ...]:
    """Adapter and CTC head; then the decoder alone, two thirds of its steps on short windows, which are cheap."""
    short = decoder_steps * 2 // 3
    return (
        TrainConfig(
            steps=ctc_steps, ctc_steps=ctc_steps, budget_frames=4000, decay_steps=max(1, ctc_steps // 3)
        ),
        _decoder_alone(ctc_steps + short, longest_frames=300, decay_steps=1),
        _decoder_alone(
            ctc_steps + decoder_steps, longest_frames=700, decay_steps=max(1, (decoder_steps - short) // 2)
        ),
    )


def _decoder_alone(steps: int, longest_frames: int, decay_steps: int) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        ctc_steps=0,
        budget_frames=2000,
        decay_steps=decay_steps,
        decoder_only=True,
        decoder_jobs=3.0,
        longest_frames=longest_frames,
    )


def run(folders: Folders, recipe: Recipe, steps: tuple[str, ...], out: Path) -> None:
    """Do the named steps in order."""
    torch.set_num_threads(recipe.threads)
    for step in STEPS:
        if step not in steps:
            continue
        print(f"-- {step}", flush=True)
        if step == "import-whisper":
            save_file(
                import_whisper.encoder_state(import_whisper.read_variables(folders.whisper_parts)),
                folders.encoder,
            )
        elif step == "plan":
            plans = folders.work / "plan"
            write_plans(plans, folders.asterisk, folders.sentences, folders.wordnet, recipe.clips, SEED)
        elif step == "synthesise":
            synthesise_all(folders)
        elif step == "features":
            features(folders)
        elif step == "fit":
            fit(folders, recipe)
        else:
            export(folders, out)


def fit(folders: Folders, recipe: Recipe) -> None:
    """All stages, each going on where the run stands."""
    sentences = planned_sentences(folders.work)
    for config in recipe.stages:
        model, tokens = build.untrained(folders.run, folders.encoder, SEED, sentences, recipe.start)
        if isinstance(model.audio_adapter, MoEAdapter):
            # Faster than the grouped product in fp32 on a CPU, and the same function.
            model.audio_adapter.path = "loop"
        loop.fit(model, tokens, folders.features, folders.run, config, lambda line: print(line, flush=True))


def export(folders: Folders, out: Path) -> None:
    """Choose the speech threshold on a sample of the training windows and write the checkpoint."""
    model, tokens = build.trained(folders.run, folders.encoder)
    shards = sorted(folders.features.rglob("*.safetensors"))
    examples = load_examples(random.Random(SEED).sample(shards, min(len(shards), THRESHOLD_SHARDS)))
    chosen = threshold.choose(model, examples)
    print(f"speech threshold {chosen}", flush=True)
    print(f"{out} sha256 {build.export(model, tokens, chosen.value, out)}", flush=True)


def planned_sentences(work: Path) -> list[str]:
    """Every training sentence of the plan, for the tokenizer."""
    plans = sorted(path for path in (work / "plan").glob("*.jsonl") if not path.name.startswith("test-"))
    return [
        json.loads(line)["text"] for path in plans for line in path.read_text(encoding="utf-8").splitlines()
    ]


def synthesise_all(folders: Folders) -> None:
    """Speak every plan whose program is to be had."""
    for plan in sorted((folders.work / "plan").glob("*.jsonl")):
        program = plan.stem.removeprefix("test-")
        out = folders.work / "speech" / plan.stem
        script = Path(__file__).with_name(f"speak_{program}.py")
        if not script.exists():
            print(f"{plan.stem}: {synthesise.speak(plan, out)} clips", flush=True)
            continue
        voice = folders.kokoro if program == "kokoro" else folders.piper
        if voice is None or folders.neural_python is None:
            print(f"{plan.stem}: left out, its voice is not given", flush=True)
            continue
        command = [str(folders.neural_python), "-P", str(script), "--plan", str(plan), "--out", str(out)]
        if program == "kokoro":
            command += ["--model", str(voice / "kokoro.onnx"), "--voices", str(voice / "voices")]
        else:
            command += ["--model", str(voice)]
        subprocess.run(command, check=True)


def features(folders: Folders) -> None:
    """Encode windows of every source; sources come in an order that makes an early training useful."""
    encoder = build.load_encoder(folders.encoder, CONFIGS["nano"])
    recordings = sounds.load_recordings(folders.asterisk, folders.esc10, held_out=False)
    todo: list[tuple[str, list[sources.Entry], int]] = [
        ("asterisk1", sources.asterisk(folders.asterisk), 101)
    ]
    for number, program in enumerate(("flite", "kokoro", "piper", "espeak", "festival")):
        todo.append((program, sources.synthetic(folders.work / "speech" / program), 400 + number))
    if folders.read_speech is not None:
        todo.append(("read", sources.read_speech(folders.read_speech), 201))
    if folders.digits is not None:
        todo.append(("digits", sources.spoken_digits(folders.digits, DIGIT_STRINGS, SEED), 300))
    for number in range(2, ASTERISK_PASSES + 1):
        todo.append((f"asterisk{number}", sources.asterisk(folders.asterisk), 100 + number))
    for number in range(2, KOKORO_PASSES + 1):
        todo.append((f"kokoro{number}", sources.synthetic(folders.work / "speech" / "kokoro"), 500 + number))
    n_mels = CONFIGS["nano"].audio.n_mels
    sound = folders.features / "sound"
    made = cache.sound_windows(SOUND_WINDOWS, cache.done_identities(sound), recordings, SEED)
    print(f"sound: {cache.write_shards(sound, 'sound', made, encoder, n_mels)} windows", flush=True)
    for name, entries, seed in todo:
        folder = folders.features / name
        made = cache.speech_windows(entries, cache.done_identities(folder), recordings, seed)
        print(f"{name}: {cache.write_shards(folder, name, made, encoder, n_mels)} windows", flush=True)


def write_test_set(folders: Folders) -> Path:
    """The manifest of the held-out voices, for `model.evaluate asr`; group = program and kind of text."""
    lines = []
    for folder in sorted((folders.work / "speech").glob("test-*")):
        for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            audio = str(folder / item["audio"])
            lines.append(
                json.dumps(
                    {"audio": audio, "text": item["text"], "group": f"{item['program']} {item['source']}"}
                )
                + "\n"
            )
    path = folders.work / "heldout-voices.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path
