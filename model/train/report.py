"""How the experts share the work: measured, written down, drawn.

In: a trained model and windows. Out: an `ExpertLoad`; a JSON file and a picture of it. Knows no training.
Invariant: every real audio token counts `top_k` times, once for each expert it chose; padding never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from model.eureka import Eureka
from model.train.cache import Item, Live
from model.train.dataset import Windows
from model.train.inputs import stacked
from model.train.losses import picks, states_of

LEAST_SHARE = 0.01
WINDOWS = 2000
WINDOWS_AT_ONCE = 8
ALL = "all"


@dataclass(frozen=True)
class ExpertLoad:
    """Share of the routed tokens that each expert gets, over all windows and per source."""

    experts: int
    top_k: int
    windows: int
    tokens: int
    shares: dict[str, list[float]]

    @property
    def least(self) -> float:
        """The share of the expert with the least work."""
        return min(self.shares[ALL])

    @property
    def balanced(self) -> bool:
        """Whether every expert has more than LEAST_SHARE of the work."""
        return self.least > LEAST_SHARE

    def __str__(self) -> str:
        shares = " ".join(f"{100 * share:.1f}" for share in self.shares[ALL])
        verdict = "every expert above 1 %" if self.balanced else "AN EXPERT HAS NO MORE THAN 1 %"
        return f"expert load in per cent, {self.tokens} tokens: {shares}; {verdict}"


@torch.inference_mode()
def expert_load(model: Eureka, windows: Windows, live: Live, most: int = WINDOWS) -> ExpertLoad:
    """Route windows spread evenly over all of them, `most` at most."""
    items = windows.items(windows.parts())
    chosen = range(0, len(items), max(1, -(-len(items) // most)))
    sums: dict[str, torch.Tensor] = {}
    tokens = 0
    for index in batched(sorted(chosen, key=lambda i: items[i].frames)):
        examples = windows.examples(index, epoch=0, augmented=False)
        adapted = model.adapt(states_of(model, live, stacked(examples, live)))
        tokens += int(adapted.tokens_B.sum())
        for row, example in enumerate(examples):
            mine_T = (
                adapted.valid_BN()
                & (torch.arange(len(examples), device=adapted.tokens_B.device) == row)[:, None]
            )
            picks_E = picks(adapted.router, mine_T.reshape(-1).float()).cpu()
            for name in (ALL, _source(example.item)):
                sums[name] = sums.get(name, torch.zeros(len(picks_E))) + picks_E
    shares = {name: (total / total.sum()).tolist() for name, total in sums.items()}
    config = model.config.adapter
    return ExpertLoad(config.experts, config.top_k, len(chosen), tokens, shares)


def batched(order: Sequence[int]) -> Iterable[Sequence[int]]:
    """Pieces of WINDOWS_AT_ONCE."""
    return [order[start : start + WINDOWS_AT_ONCE] for start in range(0, len(order), WINDOWS_AT_ONCE)]


def _source(item: Item) -> str:
    return item.origin or "unnamed"


def write(load: ExpertLoad, folder: Path, name: str) -> Path:
    """`name.json` and `name.png`; returns the picture's path."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = asdict(load) | {"least": load.least, "balanced": load.balanced}
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    picture = folder / f"{name}.png"
    draw(load, picture)
    return picture


def draw(load: ExpertLoad, path: Path) -> None:
    """Bars per expert, one colour per source, and the two lines that matter: uniform, and one per cent."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [ALL, *sorted(set(load.shares) - {ALL})] if len(load.shares) > 2 else [ALL]
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        places = [expert - 0.4 + width * (number + 0.5) for expert in range(load.experts)]
        axes.bar(places, [100 * share for share in load.shares[name]], width, label=name)
    axes.axhline(100 / load.experts, color="gray", linewidth=1, linestyle=":", label="uniform")
    axes.axhline(100 * LEAST_SHARE, color="red", linewidth=1, linestyle="--", label="1 %")
    axes.set_xticks(range(load.experts))
    axes.set_xlabel("expert")
    axes.set_ylabel("share of the routed tokens, %")
    axes.set_title(f"{load.windows} windows, {load.tokens} audio tokens, top {load.top_k} of {load.experts}")
    axes.legend(fontsize="small")
    figure.savefig(path)
