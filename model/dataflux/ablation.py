"""Before and after: a recipe trained without and with the questions of one run, both asked those of another run.

In: a recipe, a checkpoint to start from, manifests, the folders of two runs. Out: two checkpoints; how many questions
these and the start get right and how many words wrong, as JSON, a table and a picture. Knows no details of a stage, and
no step of the loop.
Invariant: but for the manifests both trainings are the same: start, steps, seed; all checkpoints are asked the same
questions, so a difference is drawn over pairs. `python -m model.dataflux.ablation --help`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from model.checkpoint import CheckpointError, load
from model.dataflux.score import Answered, answer, share
from model.device import choose
from model.engine import Engine
from model.evaluate import asr, pictures
from model.evaluate.findings import Findings
from model.evaluate.heard import listen, word_errors
from model.evaluate.measures import Interval, Measure
from model.train import distributed, manifest, recipe, run
from model.train.distributed import Processes
from model.train.loop import TrainingError
from model.train.manifest import ManifestError
from model.train.recipe import Recipe, RecipeError

RECIPE = recipe.FOLDER / "flux.toml"
START, WITHOUT, WITH = "start", "without", "with"
QUESTIONS, CAPTIONS, DETAILS = "questions.jsonl", "captions.jsonl", "details.jsonl"
Categories = Mapping[tuple[str, tuple[str, ...]], str]


def train(
    stages: Recipe, data: Sequence[Path], flux: Path, folder: Path, processes: Processes
) -> dict[str, Path]:
    """Both trainings, each in a folder of its own, where it goes on; their checkpoints. `flux`: a run's folder."""
    more = (flux / QUESTIONS, flux / CAPTIONS)
    found = {}
    for name, manifests in ((WITHOUT, tuple(data)), (WITH, (*data, *more))):
        outcome = run.train(
            stages.with_manifests(manifests),
            folder / name,
            processes,
            features=folder / run.FEATURES,
        )
        if outcome.checkpoint is None:
            raise RuntimeError("a run that nothing stops has come to no end")
        found[name] = Path(outcome.checkpoint)
    return found


def ask(checkpoint: Path, flux: Path, device: str, threads: int) -> Answered:
    """What a checkpoint answers to a run's questions."""
    placement = choose(device, False)
    loaded = load(checkpoint, placement.device, placement.dtype)
    return answer(loaded, placement, manifest.read(flux / QUESTIONS), threads)


def categories(flux: Path) -> Categories:
    """The category of each question of a run."""
    lines = [json.loads(line) for line in (flux / DETAILS).read_text(encoding="utf-8").splitlines()]
    items = [line["item"] for line in lines if "item" in line]
    return {(item["text"], tuple(item["options"])): item["category"] for item in items}


def measures(found: Answered, known: Categories) -> list[Measure]:
    """Right in all, right about another clip, what listening adds to that, and right in each category."""
    heard = [right - other for right, other in zip(found.right, found.other, strict=True)]
    told = [
        share("all questions", found.asked, found.right),
        share("asked about another clip", found.asked, found.other),
        share("the first less the second", found.asked, heard),
    ]
    named = [known[one.prompt, one.choices] for one in found.asked]
    for category in sorted(set(named)):
        mine = [number for number, name in enumerate(named) if name == category]
        told.append(share(category, [found.asked[n] for n in mine], [found.right[n] for n in mine]))
    return told


def words(checkpoint: Path, speech: Path, device: str, threads: int) -> Measure:
    """How many words of a manifest of `eureka evaluate asr` a checkpoint gets wrong."""
    engine = Engine.open(checkpoint, device=device, compile=False, threads=threads)
    return word_errors("words wrong", listen(engine, asr.read_manifest(speech)).heard)


def table(found: Mapping[str, Sequence[Measure]]) -> str:
    """A row per measure, a column per checkpoint, and what the run's questions add to the training without them."""
    names = list(found)
    lines = [
        f"| % | of | {' | '.join(names)} | {WITH} − {WITHOUT} |",
        "|---" * (len(names) + 3) + "|",
    ]
    for row in zip(*found.values(), strict=True):
        of = dict(zip(names, row, strict=True))
        cells = [_told(one.interval()) for one in row]
        more = of[WITH].minus(of[WITHOUT])
        assert more is not None  # of the same items
        count = round(sum(row[0].bottoms or ()))
        lines.append(f"| {row[0].name} | {count} | {' | '.join(cells)} | {_told(more, '+')} |")
    return "\n".join(lines)


def _told(one: Interval, sign: str = "") -> str:
    return f"{one.value:{sign}.1f} ({one.low:{sign}.1f} to {one.high:{sign}.1f})"


def write(folder: Path, found: Mapping[str, Sequence[Measure]]) -> str:
    """`ablation.json` and the picture; returns the table."""
    record = {
        name: {one.name: asdict(one.interval()) | {"items": one.items} for one in told}
        for name, told in found.items()
    }
    (folder / "ablation.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    pictures.draw(folder, [Findings(name, "", "cpu", list(told)) for name, told in found.items()])
    return table(found)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.dataflux.ablation", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made on the way")
    parser.add_argument("--start", type=Path, required=True, help="checkpoint to go on from")
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="manifests that both are trained on"
    )
    parser.add_argument(
        "--train", type=Path, required=True, help="folder of the run that one is trained on too"
    )
    parser.add_argument("--test", type=Path, required=True, help="folder of the run that all are asked")
    parser.add_argument("--speech", type=Path, help="a manifest of `eureka evaluate asr`: words wrong, too")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="a TOML file; default: recipes/flux.toml")
    parser.add_argument("--steps", type=int, help="other number of steps than the recipe's last stage")
    parser.add_argument("--seed", type=int, default=1, help="of the training; default 1")
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"), help="default: cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; default 2")
    arguments = parser.parse_args(argv)
    try:
        _ablate(arguments)
    except (CheckpointError, ManifestError, RecipeError, TrainingError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


def _ablate(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    stages = recipe.load(arguments.recipe).model_copy(update={"seed": arguments.seed})
    if arguments.steps is not None:
        stages = stages.with_steps({stages.stage[-1].name: arguments.steps})
    stages = stages.with_model(start=arguments.start)
    with distributed.join(arguments.device) as processes:
        trained = train(stages, arguments.data, arguments.train, arguments.work, processes)
    known = categories(arguments.test)
    where = (arguments.device, arguments.threads)
    found = {}
    for name, checkpoint in {START: arguments.start, **trained}.items():
        found[name] = measures(ask(checkpoint, arguments.test, *where), known)
        if arguments.speech is not None:
            found[name].append(words(checkpoint, arguments.speech, *where))
    sys.stdout.write(write(arguments.work, found) + "\n")


if __name__ == "__main__":
    main()
