"""Is it the routing? The same training twice: top-k of many experts, and one dense FFN of equal active size.

In: a recipe, a training and a test manifest. Out: the word error rate of both, and their sizes.
Knows no details of a stage. Invariant: but for the adapter's FFNs both trainings are the same: data, order, masks,
steps, seed; per token both multiply by equally many FFN weights (the router's own, experts · 4·D, come on top).
"""

from dataclasses import dataclass
from pathlib import Path

from model.config import AdapterConfig
from model.train import recipe, run, trial
from model.train.distributed import Processes
from model.train.recipe import AdapterSizes, Recipe
from model.train.trial import Heard

RECIPE = recipe.FOLDER / "ablation.toml"


@dataclass(frozen=True)
class Variant:
    """`active`: FFN weights that a token is multiplied by; `total`: FFN weights there are.

    `by_ctc`: what adapter and CTC head read alone; `by_engine`: with the decoder, where the recipe trains one.
    """

    name: str
    active: int
    total: int
    last_loss: float | None
    least_expert_share: float
    by_ctc: Heard
    by_engine: Heard | None


def dense(config: AdapterConfig) -> AdapterSizes:
    """One FFN that is always on, as wide as the experts that are on at a time."""
    hidden = (config.top_k + config.shared_experts) * config.hidden
    return AdapterSizes(experts=1, top_k=1, shared_experts=0, hidden=hidden)


def ffn_weights(config: AdapterConfig, d_model: int) -> tuple[int, int]:
    """Active and total FFN weights of an adapter."""
    one = config.hidden * (config.frames_per_token * d_model + config.expert_out)
    return one * (config.top_k + config.shared_experts), one * (config.experts + config.shared_experts)


def ablate(
    stages: Recipe, folder: Path, test: Path, processes: Processes, threads: int
) -> tuple[Variant, ...]:
    """Train and test both; each in a folder of its own, where it resumes."""
    routed = stages.model.adapter_config()
    names = {
        f"top-{routed.top_k} of {routed.experts} experts + {routed.shared_experts} shared": stages,
        "one dense FFN": stages.with_model(adapter=dense(routed)),
    }
    found = []
    for name, one in names.items():
        where = folder / ("dense" if one is not stages else "routed")
        outcome = run.train(one, where, processes, features=folder / run.FEATURES)
        if outcome.checkpoint is None:
            raise RuntimeError("a run that nothing stops has come to no end")
        checkpoint = Path(outcome.checkpoint)
        by_ctc = trial.hear_by_ctc(checkpoint, test)
        by_engine = trial.hear(checkpoint, test, threads) if "decoder" in one.parts else None
        sizes = ffn_weights(one.model.adapter_config(), one.model.audio_config().d_model)
        last = outcome.stages[-1]
        found.append(Variant(name, *sizes, last.last_loss, last.least_expert_share, by_ctc, by_engine))
    return tuple(found)
