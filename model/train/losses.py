"""The losses of one batch: next token on the decoder's output, CTC on the adapter's, balance of the experts.

In: a model and a batch's inputs. Out: the training objective and what it is made of.
Knows no optimizer. Invariant: padding contributes to no loss; windows whose text does not fit CTC's frames are left
out of it, not cut; every mean is over the whole batch, also when several processes have a part of it each, so the
gradient does not depend on how many there are.

Objective: `L = L_next_token + λ·L_balance` (arXiv 2602.13954), beside it CTC on the adapter's output and the probes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.adapter import RouterStats
from model.eureka import Adapted, Encoded, Eureka
from model.train.batches import FRAMES_PER_TOKEN
from model.train.cache import Live
from model.train.inputs import Asked, Heard, Inputs, tokens_of
from model.train.probes import UNKNOWN, Probes
from model.train.windows import QUESTIONS

PARTS = ("total", "decoder", "ctc", "balance", "probes")
Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """What a loss counts beside the next token's; 0: it is not computed."""

    ctc: float
    balance: float
    probes: float


class Objective(nn.Module):
    """Model and probes with their losses, so that a wrapper sees one forward pass.

    total: sums a tensor over all processes, in place.
    """

    def __init__(self, model: Eureka, probes: Probes, live: Live, weights: Weights, total: Total) -> None:
        super().__init__()
        self.model, self.probes = model, probes
        self._live, self._weights, self._total = live, weights, total

    def forward(self, inputs: Inputs, world: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """The loss to go back from; PARTS of the objective (their sum over the processes is the batch's); and how many
        tokens each expert was chosen for, in all processes.

        The loss is `world` times this process's share: the mean of the gradients is then the whole batch's.
        """
        adapted = self.model.adapt(states_of(self.model, self._live, inputs.heard))
        device = adapted.embeds_BNO.device
        zero = torch.zeros((), device=device)
        ctc, ctc_tokens = zero, zero
        if self._weights.ctc > 0:
            room = tokens_of(inputs.heard.frames)
            ctc, ctc_tokens = ctc_sum(self.model, inputs.targets, room, adapted)
        asked = inputs.asked
        decoder = decoder_sum(self.model, asked, adapted) if asked is not None else zero
        valid_T = adapted.valid_BN().reshape(-1).float()
        picks_E = picks(adapted.router, valid_T)
        asked_Q = torch.zeros(len(QUESTIONS), device=device)
        if self._weights.probes > 0:
            asked_Q = (inputs.wanted_QB != UNKNOWN).sum(1).to(device).float()
        mine = torch.cat(
            [
                torch.stack([ctc_tokens, zero + (0 if asked is None else len(asked.ids_BP)), valid_T.sum()]),
                asked_Q,
                picks_E,
            ]
        ) * float(inputs.counts)
        counts = self._total(mine).clamp(min=1.0)
        picks_E = mine[3 + len(asked_Q) :].detach()
        parts = [
            decoder / counts[1],
            ctc / counts[0],
            balance_share(adapted.router, valid_T, picks_E, counts[2]),
            zero,
        ]
        if self._weights.probes > 0:
            parts[3] = (self.probes(adapted, inputs.wanted_QB) / counts[3 : 3 + len(asked_Q)]).sum()
        factors = (1.0, self._weights.ctc, self._weights.balance, self._weights.probes)
        loss = sum((part * factor for part, factor in zip(parts, factors, strict=True)), zero)
        loss = loss * float(inputs.counts)
        if (
            not loss.requires_grad
        ):  # nothing that this part knows is learned: the other processes' gradients still come
            loss = loss + next(value for value in self.parameters() if value.requires_grad).sum() * 0.0
        shares = torch.stack([loss, *(part * float(inputs.counts) for part in parts)]).detach()
        return loss * world, shares, picks_E


def picks(router: RouterStats, valid_T: Tensor) -> Tensor:
    """How many of the real tokens chose each expert, `[E]`."""
    experts = router.probabilities_TE.shape[1]
    chosen_TE = F.one_hot(router.chosen_TK, experts).sum(1).to(valid_T.dtype)
    return (chosen_TE * valid_T[:, None]).sum(0)


def balance_share(router: RouterStats, valid_T: Tensor, picks_E: Tensor, tokens: Tensor) -> Tensor:
    """This process's share of `|E| Σ_e P̄_e f̄_e` (arXiv 2101.03961, equation 4) over `tokens` in all processes."""
    share_E = picks_E / picks_E.sum().clamp(min=1.0)
    mean_E = (router.probabilities_TE * valid_T[:, None]).sum(0) / tokens
    return len(picks_E) * (mean_E * share_E).sum()


def states_of(model: Eureka, live: Live, heard: Heard) -> Encoded:
    """Cached states through the encoder's last layers, as a batch; what is to be blanked out is blanked after that."""
    device = model.audio_encoder.layer_norm.weight.device
    states = heard.states.to(device, non_blocking=True).float()
    tokens_B = torch.tensor(tokens_of(heard.frames)).to(device, non_blocking=True)
    if live == "all":
        states_BLD = model.audio_encoder(states.transpose(1, 2), 2 * tokens_B * FRAMES_PER_TOKEN)
    else:
        inside_BL = torch.arange(states.shape[1], device=device) < tokens_B[:, None] * FRAMES_PER_TOKEN
        states_BLD = model.audio_encoder.above(states, inside_BL, live)
    if heard.keep_BL is not None and heard.keep_BD is not None:
        states_BLD = states_BLD * heard.keep_BL.to(device)[:, :, None] * heard.keep_BD.to(device)[:, None, :]
    return Encoded(states_BLD, tokens_B)


def ctc_sum(
    model: Eureka, targets: Sequence[list[int] | None], room: Sequence[int], adapted: Adapted
) -> tuple[Tensor, Tensor]:
    """Summed CTC loss and the number of target tokens; a window without words counts as one token (all blank).

    targets: tokens of each window's words; room: its audio tokens.
    """
    log_probs_BNV = model.ctc_log_probs(adapted.embeds_BNO, adapted.valid_BN())
    device = log_probs_BNV.device
    keep = [b for b, ids in enumerate(targets) if ids is not None and frames_needed(ids) <= room[b]]
    if not keep:
        return log_probs_BNV.sum() * 0.0, torch.zeros((), device=device)
    kept = [targets[b] or [] for b in keep]
    loss_B = F.ctc_loss(
        log_probs_BNV[torch.tensor(keep).to(device)].transpose(0, 1),
        torch.tensor([token for ids in kept for token in ids], dtype=torch.long).to(device),
        torch.tensor([room[b] for b in keep]),
        torch.tensor([len(ids) for ids in kept]),
        blank=model.blank,
        reduction="none",
    )
    return loss_B.sum(), torch.tensor(float(sum(max(1, len(ids)) for ids in kept)), device=device)


def frames_needed(ids: Sequence[int]) -> int:
    """Audio tokens that CTC needs for these ids: repeats need a blank between them."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def decoder_sum(model: Eureka, asked: Asked, adapted: Adapted) -> Tensor:
    """Cross-entropy per answer token, the end token included, averaged per answer and summed over the answers."""
    device = adapted.embeds_BNO.device
    windows_B = asked.windows_B.to(device)
    embeds_BPO = model.embed(
        asked.ids_BP.to(device), adapted.embeds_BNO[windows_B], adapted.tokens_B[windows_B]
    )
    hidden_TO = model.decoder.hidden(embeds_BPO).flatten(0, 1)[asked.at_T.to(device)]
    loss_T = F.cross_entropy(model.decoder.lm_head(hidden_TO), asked.answer_T.to(device), reduction="none")
    return (loss_T * asked.weight_T.to(device)).sum()
