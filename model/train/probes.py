"""Linear probes on the mean audio embedding: a shortcut for the gradient, thrown away after training.

In: audio embeddings of a batch and the known answers. Out: the probes' losses. Why: the CTC head keeps of a window only
its words; without this, the adapter learns voice, line and background from the decoder alone, which takes far longer.
Knows no decoder. Invariant: a window is only asked what is known of it.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.eureka import Adapted
from model.train.windows import QUESTIONS

UNKNOWN = -100


class Probes(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({q.name: nn.Linear(width, len(q.choices)) for q in QUESTIONS})

    def forward(self, adapted: Adapted, wanted_QB: Tensor) -> Tensor:
        """Cross-entropy of each question summed over the windows that it is known of: `[Q]`."""
        valid_BN1 = adapted.valid_BN()[:, :, None].to(adapted.embeds_BNO.dtype)
        mean_BO = (adapted.embeds_BNO * valid_BN1).sum(1) / valid_BN1.sum(1)
        wanted_QB = wanted_QB.to(mean_BO.device)
        return torch.stack(
            [
                F.cross_entropy(
                    self.heads[question.name](mean_BO).float(),
                    wanted_B,
                    ignore_index=UNKNOWN,
                    reduction="sum",
                )
                for question, wanted_B in zip(QUESTIONS, wanted_QB, strict=True)
            ]
        )


def wanted(answers: Sequence[Mapping[str, str]]) -> Tensor:
    """The index of each known answer, UNKNOWN elsewhere: `[Q, B]`."""
    return torch.tensor(
        [
            [q.choices.index(known[q.name]) if q.name in known else UNKNOWN for known in answers]
            for q in QUESTIONS
        ]
    )
