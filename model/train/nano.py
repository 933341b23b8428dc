"""The recipe of the nano checkpoint, step by step; every step can be stopped and run again.

In: `Folders`: where the public data lies and where to work. Out: model/checkpoints/nano.safetensors or another path.
Knows no details of any step: this file is the order of things and the amounts; the stages are in recipes/nano.toml.
Invariant: `do` does the steps in the order of STEPS, and each leaves files that the next one reads.
"""

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file

from model.config import CONFIGS
from model.train import (
    build,
    cache,
    import_whisper,
    recipe,
    run,
    sounds,
    sources,
    synthesise,
    threshold,
)
from model.train.batches import corpus
from model.train.dataset import ShardWindows
from model.train.distributed import Processes
from model.train.plan import write_plans
from model.train.recipe import Recipe
from model.train.share import Share
from model.train.voices import Program
from model.train.windows import QUESTIONS

STEPS = ("import-whisper", "plan", "synthesise", "features", "fit", "export")
# Clips per program. Kokoro and Piper are optional: without their files the others speak alone.
CLIPS: dict[Program, int] = {
    "kokoro": 4000,
    "piper": 9000,
    "flite": 30_000,
    "festival": 3000,
    "espeak": 30_000,
    "pico": 20_000,
    "rhvoice": 7000,
}
# How often a source is augmented anew: the few natural voices more often than the many robotic ones.
ASTERISK_PASSES, READ_PASSES, KOKORO_PASSES = 6, 4, 4
SOUND_WINDOWS = 2000
DIGIT_STRINGS = 600
SEED = 1
RECIPE = recipe.FOLDER / "nano.toml"
THRESHOLD_SHARDS = 2  # of each source
WHOLE, ALONE = Share(), Processes(torch.device("cpu"))


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
class Amounts:
    """What a smaller trial may turn down, or a later run change. `sources`: features of these alone; none: of all.
    `share`: what this process speaks and encodes.

    `start`: go on from the weights of this checkpoint. `earlier`: sentences of a kind that it was trained on, at most.
    """

    clips: dict[Program, int] = field(default_factory=lambda: dict(CLIPS))
    threads: int = 2
    start: Path | None = None
    earlier: int = 0
    sources: tuple[str, ...] = ()
    share: Share = WHOLE


def do(
    folders: Folders,
    amounts: Amounts,
    stages: Recipe,
    steps: tuple[str, ...],
    out: Path,
    stop: Callable[[], bool] = lambda: False,
    changed: bool = False,
    processes: Processes = ALONE,
) -> bool:
    """Do the named steps in order; returns whether `fit`, if it was among them, came to its end."""
    torch.set_num_threads(amounts.threads)
    stages = recipe_of(folders, amounts, stages)
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
            write_plans(
                plans,
                folders.asterisk,
                folders.sentences,
                folders.wordnet,
                amounts.clips,
                SEED,
                amounts.earlier,
            )
        elif step == "synthesise":
            synthesise_all(folders, amounts.share)
        elif step == "features":
            features(folders, stages, amounts, processes.device)
        elif step == "fit":
            outcome = run.train(
                stages,
                folders.run,
                processes,
                stop,
                folders.features,
                lambda: corpus(planned_sentences(folders.work), [], QUESTIONS),
                changed,
            )
            if not outcome.finished:
                return False
        else:
            export(folders, stages, out)
    return True


def recipe_of(folders: Folders, amounts: Amounts, stages: Recipe) -> Recipe:
    """The recipe with the encoder that was imported, or the checkpoint to go on from."""
    if amounts.start is not None:
        return stages.with_model(start=amounts.start)
    return stages.with_model(encoder=folders.encoder)


def export(folders: Folders, stages: Recipe, out: Path) -> None:
    """Choose the speech threshold on a sample of the training windows and write the checkpoint."""
    model, tokens = run.trained(stages, folders.run)
    live = stages.model.encoder_layers
    windows = ShardWindows(folders.features, live)
    items = windows.items(threshold_shards(folders.features))
    chosen = threshold.choose(model, windows.examples(range(len(items)), 0, False), live)
    print(f"speech threshold {chosen}", flush=True)
    print(f"{out} sha256 {build.export(model, tokens, out, chosen.value)}", flush=True)


def threshold_shards(features: Path) -> tuple[str, ...]:
    """A few shards of each source, so that speech of every program and pure sound are both among them."""
    rng = random.Random(SEED)
    chosen: list[str] = []
    for source in sorted(path for path in features.iterdir() if path.is_dir()):
        shards = sorted(str(path.relative_to(features)) for path in source.glob("*.safetensors"))
        chosen += rng.sample(shards, min(len(shards), THRESHOLD_SHARDS))
    return tuple(chosen)


def planned_sentences(work: Path) -> list[str]:
    """Every training sentence of the plan, for the tokenizer."""
    plans = sorted(path for path in (work / "plan").glob("*.jsonl") if not path.name.startswith("test-"))
    return [
        json.loads(line)["text"] for path in plans for line in path.read_text(encoding="utf-8").splitlines()
    ]


def synthesise_all(folders: Folders, share: Share) -> None:
    """Speak a share of every plan whose program is to be had; the neural voices' scripts speak whole plans."""
    if not (plans := sorted((folders.work / "plan").glob("*.jsonl"))):
        raise FileNotFoundError(f"no plan in {folders.work / 'plan'}: the step before, `plan`, writes it")
    for plan in plans:
        program = plan.stem.removeprefix("test-")
        script = Path(__file__).with_name(f"speak_{program}.py")
        if not script.exists():
            out = folders.work / "speech" / f"{plan.stem}{share.suffix}"
            print(f"{plan.stem}: {synthesise.speak(plan, out, share)} clips", flush=True)
            continue
        if not share.whole:
            continue
        out = folders.work / "speech" / plan.stem
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


def spoken(folders: Folders, program: str, share: Share) -> Sequence[sources.Entry]:
    """A share of a program's clips, none twice: those that the same share has spoken, else so much of all there are.

    Where others of the same shares have spoken, all there are is theirs, and this share has none yet.
    """
    speech = folders.work / "speech"
    if not share.whole and any(speech.glob(f"{program}.*of{share.of}")):
        return sources.synthetic(speech / f"{program}{share.suffix}")
    parts = [folder for folder in speech.glob(f"{program}*") if folder.name.partition(".")[0] == program]
    # A clip that was spoken in shares, and again in others or in one piece, is the same clip.
    found = {entry.identity: entry for folder in sorted(parts) for entry in sources.synthetic(folder)}
    return share.take(list(found.values()))


def features(folders: Folders, stages: Recipe, amounts: Amounts, device: torch.device) -> None:
    """Encode a share of the windows of every source, or of those that are named (as in the list below)."""
    share, only = amounts.share, amounts.sources
    encoder = build.load_encoder(folders.encoder, CONFIGS[stages.model.geometry]).to(device)
    live = stages.model.encoder_layers
    recordings = sounds.load_recordings(folders.asterisk, folders.esc10, held_out=False)
    todo: list[tuple[str, Sequence[sources.Entry], int]] = []
    for number in range(1, ASTERISK_PASSES + 1):
        todo.append((f"asterisk{number}", share.take(sources.asterisk(folders.asterisk)), 100 + number))
    for number, program in enumerate(("flite", "kokoro", "piper", "espeak", "festival", "pico", "rhvoice")):
        todo.append((program, spoken(folders, program, share), 400 + number))
    if folders.read_speech is not None:
        for number in range(1, READ_PASSES + 1):
            todo.append((f"read{number}", share.take(sources.read_speech(folders.read_speech)), 200 + number))
    if folders.digits is not None:
        strings = sources.spoken_digits(folders.digits, DIGIT_STRINGS, SEED)
        todo.append(("digits", share.take(strings), 300))
    for number in range(2, KOKORO_PASSES + 1):
        todo.append((f"kokoro{number}", spoken(folders, "kokoro", share), 500 + number))
    todo.append(("sound", [], SEED))
    for name, entries, seed in todo:
        if only and name not in only:
            continue
        folder = folders.features / name
        done = cache.done_identities(folder)
        made = (
            cache.sound_windows(share.take(range(SOUND_WINDOWS)), done, recordings, seed)
            if name == "sound"
            else cache.speech_windows(entries, done, recordings, share.seed(seed))
        )
        fitting = cache.of_fit_length(made)
        print(
            f"{name}: {cache.write_shards(folder, name + share.suffix, fitting, encoder, live)} windows",
            flush=True,
        )


def write_test_set(folders: Folders) -> list[Path]:
    """Manifests of the held-out voices for `eureka evaluate asr`, one per kind of text; group = program.

    `call`: new sentences of trained templates; `heldout`: templates never trained on.
    """
    lines: dict[str, list[str]] = {}
    seen: set[tuple[str, str, str]] = set()
    if not (spoken_tests := sorted((folders.work / "speech").glob("test-*"))):
        raise FileNotFoundError(f"no held-out voices in {folders.work / 'speech'}: `synthesise` speaks them")
    for folder in spoken_tests:
        for item in sources.listed(folder):
            clip = (folder.name.partition(".")[0], item["source"], item["audio"])
            if clip in seen:  # spoken in shares, and again in others or in one piece
                continue
            seen.add(clip)
            audio = f"speech/{folder.name}/{item['audio']}"
            entry = {"audio": audio, "text": item["text"], "group": item["program"]}
            lines.setdefault(item["source"], []).append(json.dumps(entry) + "\n")
    paths = []
    for kind, entries in sorted(lines.items()):
        path = folders.work / f"heldout-voices-{kind}.jsonl"
        path.write_text("".join(entries), encoding="utf-8")
        paths.append(path)
    return paths
