"""Command line of the training: `python -m model.train run --help`; for a shipped recipe or one of your own.

`run` trains a recipe on manifests, on one process or, started by `torchrun`, on many. `smoke` does it all in two
minutes on synthetic speech; `ablation` compares routed experts with a dense FFN; `report` draws the experts' load,
`curves` the losses; `librispeech` writes a manifest. `nano` makes the shipped checkpoint; its steps (import-whisper,
plan, synthesise, features, fit, export) can be run by name, `test-set` writes the manifests of the held-out voices.

Exit status: 0 done; 1 an error, named in one line; 3 it ran, and the result is not good; 75 stopped before its end (a
signal, --minutes): the same command goes on.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import torch
from safetensors import SafetensorError

from model.checkpoint import CheckpointError
from model.train import (
    ablation,
    distributed,
    learning,
    librispeech,
    manifest,
    nano,
    recipe,
    report,
    run,
    share,
    smoke,
    synthetic,
)
from model.train.dataset import ShardWindows, Windows
from model.train.distributed import Processes
from model.train.import_whisper import WhisperFileError
from model.train.loop import TrainingError
from model.train.manifest import ManifestError
from model.train.recipe import Recipe, RecipeError
from model.train.run import Stop
from model.train.share import Share
from model.train.synthesise import SynthesisError

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "nano.safetensors"
NOT_GOOD, STOPPED = 3, 75
SENTENCES, TEST_SENTENCES = 400, 100
ERRORS = (
    CheckpointError,
    OSError,
    ManifestError,
    RecipeError,
    SafetensorError,
    SynthesisError,
    TrainingError,
    ValueError,
    WhisperFileError,
)


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        status: int = COMMANDS.get(arguments.what, _nano)(arguments)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


def _run(arguments: argparse.Namespace) -> int:
    stages = _recipe(arguments)
    torch.set_num_threads(arguments.threads)
    with (
        distributed.join(arguments.device) as processes,
        run.on_signals(Stop(arguments.minutes)) as stop,
    ):
        outcome = run.train(stages, arguments.work, processes, stop, changed=arguments.changed)
        if processes.first:
            _print(run.as_record(outcome), arguments.json)
    return 0 if outcome.finished else STOPPED


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """The file, or the shipped recipe of that name, with what the command line changes."""
    path = Path(arguments.recipe)
    stages = recipe.load(path if path.suffix else recipe.FOLDER / f"{path}.toml")
    given = {name: getattr(arguments, name) for name in ("encoder", "decoder", "start")}
    if changes := {name: value for name, value in given.items() if value is not None}:
        stages = stages.with_model(**changes)
    if arguments.data:
        stages = stages.with_manifests(tuple(arguments.data))
    return stages.with_steps(dict(arguments.steps))


def _smoke(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(arguments.threads)
    began_s = time.monotonic()
    with distributed.join("cpu") as processes:
        stages = recipe.load(smoke.RECIPE).with_steps(dict(arguments.steps))
        found = smoke.smoke(arguments.work, processes, CHECKPOINT, stages, arguments.threads)
    for said, heard in found.heard.pairs:
        print(f"  {said:32} {heard}", file=sys.stderr)
    record = {
        "learned": found.learned,
        "wer": found.heard.wer,
        "cer": found.heard.cer,
        "words": found.heard.words,
        "wall_s": round(time.monotonic() - began_s, 1),
        "cpu_s": round(time.process_time(), 1),
        "stages": [dataclasses.asdict(done) for done in found.outcome.stages],
        "pairs": found.heard.pairs,
    }
    _print(record, arguments.json, leave_out=("pairs",))
    return 0 if found.learned else NOT_GOOD


def _ablation(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(arguments.threads)
    stages = recipe.load(arguments.recipe).with_steps(dict(arguments.steps))
    stages = stages.model_copy(update={"seed": arguments.seed})
    if (arguments.data is None) != (arguments.test is None):
        raise ValueError("--data and --test come together")
    if arguments.data is None:
        sets = synthetic.sentences(arguments.work / "speech", arguments.clips, TEST_SENTENCES, seed=1)
    else:
        sets = synthetic.Sets(arguments.data, arguments.test)
    stages = stages.with_manifests((sets.train,)).with_model(encoder=CHECKPOINT)
    with distributed.join("cpu") as processes:
        variants = ablation.ablate(stages, arguments.work, sets.test, processes, arguments.threads)
    for variant in variants:
        rates = f"WER {100 * variant.by_ctc.wer:.1f} % by CTC"
        if variant.by_engine is not None:
            rates += f", {100 * variant.by_engine.wer:.1f} % by the engine"
        print(
            f"{variant.name}: {rates}; FFN weights: {variant.active} active, {variant.total} in all",
            file=sys.stderr if arguments.json else sys.stdout,
        )
    if arguments.json:
        _print({"variants": [dataclasses.asdict(variant) for variant in variants]}, True)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    stages = run.kept(arguments.work)
    torch.set_num_threads(arguments.threads)
    model, _ = run.trained(stages, arguments.work)
    samples = [sample for path in stages.data.manifests for sample in manifest.read(path)]
    live = stages.model.encoder_layers
    if arguments.shards is not None:
        windows: Windows = ShardWindows(arguments.shards, live)
    else:
        alone = Processes(torch.device("cpu"))
        features = arguments.work / run.FEATURES
        windows = run.windows_of(stages, samples, None, features, model, alone, lambda line: None)
    load = report.expert_load(model, windows, live)
    picture = report.write(load, arguments.work / "report", "experts")
    record = dataclasses.asdict(load) | {
        "least": load.least,
        "balanced": load.balanced,
        "picture": str(picture),
    }
    if arguments.json:
        _print(record, True)
    else:
        print(f"{load}; {picture}")
    return 0 if load.balanced else NOT_GOOD


def _curves(arguments: argparse.Namespace) -> int:
    learning.draw(arguments.work, arguments.out)
    print(arguments.out)
    return 0


def _librispeech(arguments: argparse.Namespace) -> int:
    made = librispeech.samples(arguments.root, arguments.part, arguments.download)
    print(f"{manifest.write(arguments.out, made)} utterances in {arguments.out}")
    return 0


def _nano(arguments: argparse.Namespace) -> int:
    folders = _folders(arguments.work, arguments.data)
    if arguments.what == "test-set":
        for path in nano.write_test_set(folders):
            print(path)
        return 0
    amounts = nano.Amounts(
        threads=arguments.threads,
        start=arguments.start,
        earlier=arguments.earlier,
        sources=tuple(arguments.sources),
        share=arguments.share,
    )
    stages = recipe.load(arguments.recipe).with_steps(dict(arguments.steps))
    steps = nano.STEPS if arguments.what == "nano" else (arguments.what,)
    arguments.work.mkdir(parents=True, exist_ok=True)
    with run.on_signals(Stop(arguments.minutes)) as stop, distributed.join(arguments.device) as processes:
        finished = nano.do(folders, amounts, stages, steps, arguments.out, stop, arguments.changed, processes)
    return 0 if finished else STOPPED


def _folders(work: Path, data: Path) -> nano.Folders:
    """The layout of the data folder (README.md); what is not there is left out, except what training cannot miss."""

    def there(name: str) -> Path | None:
        return data / name if (data / name).exists() else None

    python = work / "neural" / "bin" / "python"
    return nano.Folders(
        work=work,
        whisper_parts=tuple(sorted((data / "whisper").glob("model.bin*"))),
        asterisk=data / "asterisk",
        sentences=data / "sentences.txt",
        wordnet=there("wordnet"),
        esc10=there("esc10"),
        digits=there("fsdd"),
        read_speech=there("ls_train100.json"),
        kokoro=there("kokoro"),
        piper=there("piper/en_US-joe-medium.onnx"),
        neural_python=python if python.exists() else None,
    )


def _print(record: dict[str, object], as_json: bool, leave_out: tuple[str, ...] = ()) -> None:
    if as_json:
        print(json.dumps(record))
        return
    for name, value in record.items():
        if name not in leave_out:
            print(f"{name}: {value}")


def _steps(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    if not name or not count.isdigit() or int(count) < 1:
        raise argparse.ArgumentTypeError("STAGE=STEPS")
    return name, int(count)


COMMANDS = {
    "run": _run,
    "smoke": _smoke,
    "ablation": _ablation,
    "report": _report,
    "curves": _curves,
    "librispeech": _librispeech,
}


def _share(text: str) -> Share:
    try:
        return share.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.train", description="Train a Eureka-Audio model; see model/train/README.md."
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument("--work", type=Path, required=True, help="folder for everything made on the way")
    work.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    work.add_argument(
        "--steps",
        type=_steps,
        nargs="*",
        default=[],
        metavar="STAGE=STEPS",
        help="other numbers of steps than the recipe's",
    )
    stopping = argparse.ArgumentParser(add_help=False)
    stopping.add_argument(
        "--minutes", type=float, default=None, help="stop after so long, to be gone on with"
    )
    stopping.add_argument(
        "--changed", action="store_true", help="go on although a stage under way was changed"
    )
    json_too = argparse.ArgumentParser(add_help=False)
    json_too.add_argument("--json", action="store_true", help="one JSON object on stdout")
    recipes = argparse.ArgumentParser(add_help=False)
    names = ", ".join(sorted(path.stem for path in recipe.FOLDER.glob("*.toml")))
    recipes.add_argument("--recipe", required=True, help=f"a TOML file, or one of {names}")
    recipes.add_argument("--data", type=Path, nargs="*", default=[], help="manifests, for the recipe's")
    recipes.add_argument("--encoder", type=Path, default=None, help="Whisper encoder: a file or a folder")
    recipes.add_argument(
        "--decoder", type=Path, default=None, help="Qwen3 decoder: a folder with its tokenizer"
    )
    recipes.add_argument("--start", type=Path, default=None, help="checkpoint to go on from")

    one = commands.add_parser(
        "run", parents=[work, recipes, stopping, json_too], help="train a recipe, all stages; resumes"
    )
    one.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: GPUs if any")
    small = commands.add_parser(
        "smoke", parents=[work, json_too], help="all of it in two minutes, on synthetic speech (needs flite)"
    )
    small.set_defaults(threads=1)  # these products are too small for more
    compare = commands.add_parser(
        "ablation", parents=[work, json_too], help="top-k routing against one dense FFN of equal active size"
    )
    compare.set_defaults(threads=1)
    compare.add_argument(
        "--recipe", type=Path, default=ablation.RECIPE, help="a TOML file; default: recipes/ablation.toml"
    )
    compare.add_argument("--seed", type=int, default=1, help="of the training; default 1")
    compare.add_argument(
        "--clips", type=int, default=SENTENCES, help=f"synthetic sentences; default {SENTENCES}"
    )
    compare.add_argument(
        "--data", type=Path, default=None, help="a training manifest instead of synthetic speech"
    )
    compare.add_argument("--test", type=Path, default=None, help="a test manifest, with --data")
    load = commands.add_parser(
        "report", parents=[json_too], help="the experts' load of a run so far, with a picture"
    )
    load.add_argument("--work", type=Path, required=True, help="the run's folder")
    load.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    load.add_argument("--shards", type=Path, default=None, help="encoder states (nano) instead of manifests")
    drawn = commands.add_parser(
        "curves", help="the learning curves of runs that go on from each other, a picture"
    )
    drawn.add_argument(
        "--work", type=Path, nargs="+", required=True, help="the runs' folders, in their order"
    )
    drawn.add_argument("--out", type=Path, required=True, help="a PNG file")
    libri = commands.add_parser("librispeech", help="write a manifest of LibriSpeech, by torchaudio")
    libri.add_argument("--root", type=Path, required=True, help="folder that holds LibriSpeech/")
    libri.add_argument("--part", default="train-clean-100", help="default: train-clean-100")
    libri.add_argument("--download", action="store_true", help="let torchaudio fetch it into --root")
    libri.add_argument("--out", type=Path, required=True, help="the manifest")
    for name in ("nano", "test-set", *nano.STEPS):
        _add_nano(
            commands.add_parser(name, parents=[work, stopping], help=NANO_HELP.get(name, "one step of nano"))
        )
    return parser


NANO_HELP = {
    "nano": "the shipped checkpoint anew, all steps",
    "test-set": "manifests of the held-out voices",
}


def _add_nano(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with the public data (README.md)")
    parser.add_argument(
        "--out", type=Path, default=CHECKPOINT, help="the checkpoint; default: the shipped one"
    )
    parser.add_argument("--recipe", type=Path, default=nano.RECIPE, help="stages; default: recipes/nano.toml")
    parser.add_argument("--start", type=Path, default=None, help="go on from the weights of this checkpoint")
    parser.add_argument(
        "--earlier",
        type=int,
        default=0,
        help="plan: sentences of a kind that --start was trained on, at most",
    )
    parser.add_argument("--sources", nargs="*", default=[], help="features: only of these; default: all")
    parser.add_argument(
        "--share",
        type=_share,
        default=Share(),
        metavar="INDEX/OF",
        help="synthesise, features: every OF-th clip from INDEX on, so that several processes share the work",
    )
    parser.add_argument(
        "--device", default="cpu", choices=("cpu", "cuda"), help="of features and fit; default cpu"
    )


if __name__ == "__main__":
    sys.exit(main())
