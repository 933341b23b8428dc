"""A training from a recipe: features, all stages, reports, the checkpoint; one command that may be stopped anywhere.

In: a `Recipe` and a folder to work in. Out: `state.safetensors`, `curves/` (TensorBoard), `report/` (expert load per
stage), `recipe.json` (what it was made with) and `checkpoint.safetensors` in that folder. Knows no details of a step.
Invariant: the same command on the same folder goes on where the last one stopped; a stage that is done is not done
again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from model.eureka import Eureka
from model.tokenizer import Tokenizer
from model.train import build, dataset, loop, manifest, report, state
from model.train.batches import corpus
from model.train.build import Texts
from model.train.cache import Live
from model.train.curves import Curves
from model.train.dataset import Windows
from model.train.distributed import Processes
from model.train.loop import Run, trainable
from model.train.manifest import Sample
from model.train.recipe import Recipe, RecipeError
from model.train.windows import QUESTIONS

CHECKPOINT, RECIPE, FEATURES = "checkpoint.safetensors", "recipe.json", "features"
# Texts for a tokenizer: more make it no better.
MOST_TEXTS = 200_000


@dataclass(frozen=True)
class StageDone:
    """`first_loss`, `last_loss`: means of the first and last twentieth of the steps taken now; None where none was."""

    stage: str
    steps: int
    first_loss: float | None
    last_loss: float | None
    seconds: float
    least_expert_share: float
    balanced: bool
    picture: str


@dataclass(frozen=True)
class Outcome:
    """What a call of `train` came to; `checkpoint` is None as long as the last stage is not done."""

    finished: bool
    stage: str
    step: int
    stages: tuple[StageDone, ...]
    checkpoint: str | None
    sha256: str | None


class Stop:
    """Whether the run shall end here: a signal came, or its time is over."""

    def __init__(self, minutes: float | None = None) -> None:
        self._until_s = None if minutes is None else time.monotonic() + 60 * minutes
        self._asked = False

    def __call__(self) -> bool:
        return self._asked or (self._until_s is not None and time.monotonic() >= self._until_s)

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal's handler; the second one ends the process at once."""
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("stopping after this step", file=sys.stderr, flush=True)


@contextmanager
def on_signals(stop: Stop) -> Iterator[Stop]:
    """SIGINT and SIGTERM end the run after the step under way."""
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    recipe: Recipe,
    folder: Path,
    processes: Processes,
    stop: Callable[[], bool] = lambda: False,
    shards: Path | None = None,
    texts: Texts | None = None,
    changed: bool = False,
    features: Path | None = None,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> Outcome:
    """All stages of the recipe, from where the folder's run stands.

    shards: a folder of encoder states that the recipe's data was made into before (nano), instead of manifests; `texts`
    are the tokenizer's then. features: where encoded windows of manifests are kept, the folder's own by default.
    Raises RecipeError, ManifestError, TrainingError.
    """
    tell = say if processes.first else (lambda line: None)
    samples = [sample for path in recipe.data.manifests for sample in manifest.read(path)]
    if not samples and shards is None:
        raise RecipeError("no manifest to train on: name one in the recipe, or with --data")
    model, tokens = _built(recipe, folder, processes, texts or (lambda: texts_of(samples)))
    live = recipe.model.encoder_layers
    windows = windows_of(recipe, samples, shards, features or folder / FEATURES, model, processes, tell)
    run = Run(folder, recipe.seed, live, recipe.parts, processes, recipe.data.repeats)
    if processes.first:
        keep(recipe, folder)
    names = [stage.name for stage in recipe.stage]
    position, _ = state.position(folder)
    if position.stage and position.stage not in names:
        raise RecipeError(f"{folder} stands in stage {position.stage}, which this recipe does not have")
    begin = names.index(position.stage) if position.stage else 0
    done: list[StageDone] = []
    for number in range(begin, len(names)):
        stage = recipe.stage[number]
        before = sum(earlier.steps for earlier in recipe.stage[:number])
        start = position.step if number == begin and position.stage else 0
        tell(f"stage {stage.name}: steps {start} to {stage.steps}, trains {', '.join(stage.train)}")
        began_s = time.monotonic()
        curves = (
            Curves(folder / "curves", stage.name, stage.steps, before, start)
            if processes.first
            else nullcontext(None)
        )
        with curves as watcher:
            fitted = loop.fit(model, tokens, windows, stage, run, watcher, stop, changed)
        if fitted.finished and processes.first:
            load = report.expert_load(model, windows, live)
            picture = report.write(load, folder / "report", f"experts-{stage.name}")
            tell(f"{load}; {picture}")
            done.append(_stage_done(stage.name, stage.steps, fitted.losses, began_s, load, picture))
        processes.wait()
        if not fitted.finished or (number + 1 < len(names) and processes.any(stop())):
            stands, _ = state.position(folder)
            tell(f"stopped at step {stands.step} of stage {stage.name}; the same command goes on from here")
            return Outcome(False, stage.name, stands.step, tuple(done), None, None)
    sha256 = None
    out = folder / CHECKPOINT
    if processes.first:
        sha256 = build.export(model.eval(), tokens, out)
        tell(f"{out} sha256 {sha256}")
    processes.wait()
    return Outcome(True, names[-1], recipe.stage[-1].steps, tuple(done), str(out), sha256)


def _stage_done(
    name: str, steps: int, losses: list[float], began_s: float, load: report.ExpertLoad, picture: Path
) -> StageDone:
    some = max(1, len(losses) // 20)
    first = sum(losses[:some]) / some if losses else None
    last = sum(losses[-some:]) / some if losses else None
    spent_s = time.monotonic() - began_s
    return StageDone(name, steps, first, last, spent_s, load.least, load.balanced, str(picture))


def _built(recipe: Recipe, folder: Path, processes: Processes, texts: Texts) -> tuple[Eureka, Tokenizer]:
    """The model on this process's device; the first process trains the tokenizer, the others read it."""
    if not processes.first:
        processes.wait()
    model, tokens = build.build(recipe.model, folder, recipe.seed, texts)
    if processes.first:
        processes.wait()
    return model.to(processes.device), tokens


def windows_of(
    recipe: Recipe,
    samples: list[Sample],
    shards: Path | None,
    features: Path,
    model: Eureka,
    processes: Processes,
    say: Callable[[str], None],
) -> Windows:
    """What the recipe trains on; windows of manifests are encoded here, if they are to be cached."""
    live, seed = recipe.model.encoder_layers, recipe.seed
    if shards is not None:
        return dataset.ShardWindows(shards, live)
    grouped = manifest.by_window(samples)
    if not recipe.data.cache:
        return dataset.LiveWindows(grouped, model.audio_encoder, live, seed)
    where = features / frozen_part(model, live)
    cached = dataset.CachedWindows(grouped, where, recipe.data.views, live)
    began_s = time.monotonic()
    missing = cached.fill(model.audio_encoder, seed, processes)
    say(f"{len(grouped)} windows, {missing} encoded now in {time.monotonic() - began_s:.0f} s")
    return cached


def frozen_part(model: Eureka, live: Live) -> str:
    """Names what the cache depends on: the encoder below the layers that may be trained."""
    digest = hashlib.sha256(str(live).encode())
    if live != "all":
        learns = trainable(model, frozenset({"encoder"}), live)
        for name, value in model.audio_encoder.named_parameters():
            if f"audio_encoder.{name}" not in learns:
                digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def texts_of(samples: list[Sample]) -> Iterator[str]:
    """What the tokenizer of a run on manifests is trained on."""
    some = samples[:: max(1, len(samples) // MOST_TEXTS)]
    spoken = [sample.answer for sample in some if sample.task == "asr"]
    others = [text for s in some if s.task != "asr" for text in (s.prompt, s.answer, *s.choices)]
    return corpus(spoken, others, QUESTIONS)


def keep(recipe: Recipe, folder: Path) -> None:
    """Write down what the folder's run is made with, paths from the root."""
    table = recipe.model
    paths = {name: getattr(table, name) for name in ("encoder", "decoder", "start")}
    absolute = {name: path.absolute() for name, path in paths.items() if path is not None}
    manifests = tuple(path.absolute() for path in recipe.data.manifests)
    resolved = recipe.with_model(**absolute).with_manifests(manifests)
    partial = folder / "recipe.part"
    partial.write_text(resolved.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / RECIPE)


def kept(folder: Path) -> Recipe:
    """What the folder's run was made with. RecipeError where no run is."""
    path = folder / RECIPE
    if not path.exists():
        raise RecipeError(f"no run in {folder}")
    return Recipe.model_validate_json(path.read_text(encoding="utf-8"))


def trained(recipe: Recipe, folder: Path) -> tuple[Eureka, Tokenizer]:
    """The run's model as far as it has been trained, on the CPU. RecipeError where no run is."""
    if not (folder / state.STATE).exists():
        raise RecipeError(f"no run in {folder}")

    def no_texts() -> Iterator[str]:
        raise RecipeError(f"no tokenizer in {folder}")

    model, tokens = build.build(recipe.model, folder, recipe.seed, no_texts)
    named = trainable(model, recipe.parts, recipe.model.encoder_layers)
    state.load(folder, dict(named))
    return model.eval().requires_grad_(False), tokens


def as_record(outcome: Outcome) -> dict[str, object]:
    """For JSON."""
    return dataclasses.asdict(outcome)
