"""Linear probes on the mean audio embedding: a shortcut for the gradient, thrown away after training.

In: audio embeddings of a batch and the known answers. Out: the probes' loss. Why: the CTC head keeps of a window only
its words; without this, the adapter learns voice, line and background from the decoder alone, which takes far longer.
Knows no decoder. Invariant: a window is only asked what is known of it.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.eureka import Adapted
from model.train.windows import QUESTIONS


class Probes(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({q.name: nn.Linear(width, len(q.choices)) for q in QUESTIONS})

    def forward(self, adapted: Adapted, answers: Sequence[Mapping[str, str]]) -> Tensor:
        """Cross-entropy of all known answers, averaged per question and summed over the questions."""
        valid_BN1 = adapted.valid_BN()[:, :, None].to(adapted.embeds_BNO.dtype)
        mean_BO = (adapted.embeds_BNO * valid_BN1).sum(1) / valid_BN1.sum(1)
        total = mean_BO.sum() * 0.0
        for question in QUESTIONS:
            rows = [b for b, known in enumerate(answers) if question.name in known]
            if rows:
                wanted = torch.tensor([question.choices.index(answers[b][question.name]) for b in rows])
                total = total + F.cross_entropy(self.heads[question.name](mean_BO[rows]), wanted)
        return total
