"""The whole training in two minutes: synthetic takes of a few phrases, three stages from scratch, unheard takes read.

In: a folder to work in, the shipped checkpoint (its Whisper encoder alone is used). Out: a `Smoke`.
Knows no details of a stage (recipes/smoke.toml). Invariant: bounded by steps, not by time; the takes that are
transcribed at the end were not trained on.
"""

from dataclasses import dataclass
from pathlib import Path

from model.train import recipe, run, synthetic, trial
from model.train.distributed import Processes
from model.train.recipe import Recipe
from model.train.run import Outcome
from model.train.trial import Heard

RECIPE = recipe.FOLDER / "smoke.toml"
READABLE_WER = 0.2


@dataclass(frozen=True)
class Smoke:
    """How the training went and what it can read."""

    outcome: Outcome
    heard: Heard

    @property
    def learned(self) -> bool:
        """Every stage's loss fell, and four of five words of unheard takes are right."""
        falling = all(
            done.first_loss is None or done.last_loss is None or done.last_loss < done.first_loss
            for done in self.outcome.stages
        )
        return falling and self.heard.wer <= READABLE_WER


def smoke(folder: Path, processes: Processes, encoder: Path, stages: Recipe, threads: int) -> Smoke:
    """Make the takes, train, transcribe. Raises SynthesisError without flite."""
    sets = synthetic.phrases(folder / "speech")
    stages = stages.with_manifests((sets.train,)).with_model(encoder=encoder)
    outcome = run.train(stages, folder / "run", processes)
    if outcome.checkpoint is None:
        raise RuntimeError("a run that nothing stops has come to no end")
    return Smoke(outcome, trial.hear(Path(outcome.checkpoint), sets.test, threads))
