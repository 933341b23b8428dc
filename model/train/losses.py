"""The losses of one batch: next token on the decoder's output, CTC on the adapter's, balance of the experts.

In: model, tokenizer, examples and their jobs. Out: the training objective and what it is made of.
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
from model.features import SILENCE_VALUE
from model.tokenizer import Tokenizer
from model.train.batches import FRAMES_PER_TOKEN, Job, target_text
from model.train.cache import Live
from model.train.dataset import Example
from model.train.probes import UNKNOWN, Probes, wanted
from model.train.windows import QUESTIONS

IGNORED = -100
FRAMES_PER_MASK = 75  # 1.5 s
LONGEST_MASK_FRAMES = 12
MASKED_CHANNELS = 0.1
PARTS = ("total", "decoder", "ctc", "balance", "probes")
Total = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Weights:
    """What a loss counts beside the next token's; 0: it is not computed."""

    ctc: float
    balance: float
    probes: float


@dataclass(frozen=True)
class Batch:
    """One process's part of a batch.

    `jobs` name their window by its index in `examples`; `seeds` decide what is masked of each example, None: nothing.
    A part that does not `count` stands in where there are fewer windows than processes: it weighs nothing.
    """

    examples: Sequence[Example]
    jobs: Sequence[tuple[int, Job]]
    seeds: Sequence[int] | None = None
    counts: bool = True


class Objective(nn.Module):
    """Model and probes with their losses, so that a wrapper sees one forward pass.

    total: sums a tensor over all processes, in place.
    """

    def __init__(
        self, model: Eureka, probes: Probes, tokenizer: Tokenizer, live: Live, weights: Weights, total: Total
    ) -> None:
        super().__init__()
        self.model, self.probes = model, probes
        self._tokenizer, self._live, self._weights, self._total = tokenizer, live, weights, total

    def forward(self, batch: Batch, world: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """The loss to go back from; PARTS of the objective (their sum over the processes is the batch's); and how many
        tokens each expert was chosen for, in all processes.

        The loss is `world` times this process's share: the mean of the gradients is then the whole batch's.
        """
        texts = [example.item.text for example in batch.examples]
        encoded = states_of(self.model, self._live, batch.examples, batch.seeds)
        adapted = self.model.adapt(encoded)
        device = adapted.embeds_BNO.device
        zero = torch.zeros((), device=device)
        ctc, ctc_tokens = zero, zero
        if self._weights.ctc > 0:
            ctc, ctc_tokens = ctc_sum(self.model, self._tokenizer, texts, adapted)
        decoder = decoder_sum(self.model, self._tokenizer, batch.jobs, adapted) if batch.jobs else zero
        valid_T = adapted.valid_BN().reshape(-1).float()
        picks_E = picks(adapted.router, valid_T)
        asked_Q, answers = (
            torch.zeros(len(QUESTIONS), device=device),
            [e.item.answers for e in batch.examples],
        )
        if self._weights.probes > 0:
            asked_Q = (wanted(answers) != UNKNOWN).sum(1).to(device).float()
        mine = torch.cat(
            [
                torch.stack([ctc_tokens, zero + len(batch.jobs), valid_T.sum()]),
                asked_Q,
                picks_E,
            ]
        ) * float(batch.counts)
        counts = self._total(mine).clamp(min=1.0)
        picks_E = mine[3 + len(asked_Q) :].detach()
        parts = [
            decoder / counts[1],
            ctc / counts[0],
            balance_share(adapted.router, valid_T, picks_E, counts[2]),
            zero,
        ]
        if self._weights.probes > 0:
            parts[3] = (self.probes(adapted, answers) / counts[3 : 3 + len(asked_Q)]).sum()
        factors = (1.0, self._weights.ctc, self._weights.balance, self._weights.probes)
        loss = sum((part * factor for part, factor in zip(parts, factors, strict=True)), zero)
        loss = loss * float(batch.counts)
        if (
            not loss.requires_grad
        ):  # nothing that this part knows is learned: the other processes' gradients still come
            loss = loss + next(value for value in self.parameters() if value.requires_grad).sum() * 0.0
        shares = torch.stack([loss, *(part * float(batch.counts) for part in parts)]).detach()
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


def states_of(model: Eureka, live: Live, examples: Sequence[Example], seeds: Sequence[int] | None) -> Encoded:
    """Cached states through the encoder's last layers, as a batch; with seeds, parts are blanked out after that.

    (SpecAugment on the encoder's output.)
    """
    device = model.audio_encoder.layer_norm.weight.device
    frames = [example.item.frames for example in examples]
    longest = max(frames)
    tokens_B = torch.tensor([count // FRAMES_PER_TOKEN for count in frames], device=device)
    inside_BL = torch.arange(longest, device=device) < tokens_B[:, None] * FRAMES_PER_TOKEN
    if live == "all":
        mel_BTM = _stacked(examples, 2 * longest, SILENCE_VALUE).to(device)
        states_BLD = model.audio_encoder(mel_BTM.transpose(1, 2), 2 * tokens_B * FRAMES_PER_TOKEN)
    else:
        states_BLD = model.audio_encoder.above(_stacked(examples, longest, 0.0).to(device), inside_BL, live)
    if seeds is not None:
        channels = states_BLD.shape[2]
        drawn = [mask(count, channels, seed) for count, seed in zip(frames, seeds, strict=True)]
        time_BL = torch.stack([F.pad(time_L, (0, longest - len(time_L))) for time_L, _ in drawn])
        channel_BD = torch.stack([channel_D for _, channel_D in drawn])
        states_BLD = states_BLD * time_BL.to(device)[:, :, None] * channel_BD.to(device)[:, None, :]
    return Encoded(states_BLD, tokens_B)


def _stacked(examples: Sequence[Example], rows: int, fill: float) -> Tensor:
    states = [example.states for example in examples]
    out = torch.full((len(states), rows, states[0].shape[1]), fill)
    for row, one in zip(out, states, strict=True):
        row[: len(one)] = one
    return out


def mask(frames: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Factors per frame and per channel: 0 or 1.

    0 are short spans of time, a fifth of the clip at most, and a random tenth of the channels.
    """
    generator = torch.Generator().manual_seed(seed)
    keep_D = (torch.rand(channels, generator=generator) >= MASKED_CHANNELS).float()
    keep_L = torch.ones(frames)
    masks = max(2, frames // FRAMES_PER_MASK)
    longest = min(LONGEST_MASK_FRAMES, frames // (5 * masks))
    if longest > 0:
        widths = torch.randint(0, longest + 1, (masks,), generator=generator).tolist()
        starts = torch.rand(masks, generator=generator).tolist()
        for width, start in zip(widths, starts, strict=True):
            first = int(start * (frames - width + 1))
            keep_L[first : first + width] = 0.0
    return keep_L, keep_D


def ctc_sum(
    model: Eureka, tokenizer: Tokenizer, texts: Sequence[str | None], adapted: Adapted
) -> tuple[Tensor, Tensor]:
    """Summed CTC loss and the number of target tokens; a window without words counts as one token (all blank)."""
    log_probs_BNV = model.ctc_log_probs(adapted.embeds_BNO, adapted.valid_BN())
    device = log_probs_BNV.device
    room = adapted.tokens_B.tolist()
    targets = [None if text is None else tokenizer.encode(target_text(text)) for text in texts]
    keep = [b for b, ids in enumerate(targets) if ids is not None and frames_needed(ids) <= room[b]]
    if not keep:
        return log_probs_BNV.sum() * 0.0, torch.zeros((), device=device)
    kept = [targets[b] or [] for b in keep]
    loss_B = F.ctc_loss(
        log_probs_BNV[keep].transpose(0, 1),
        torch.tensor([token for ids in kept for token in ids], dtype=torch.long, device=device),
        torch.tensor([room[b] for b in keep], device=device),
        torch.tensor([len(ids) for ids in kept], device=device),
        blank=model.blank,
        reduction="none",
    )
    return loss_B.sum(), torch.tensor(float(sum(max(1, len(ids)) for ids in kept)), device=device)


def frames_needed(ids: Sequence[int]) -> int:
    """Audio tokens that CTC needs for these ids: repeats need a blank between them."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def decoder_sum(
    model: Eureka, tokenizer: Tokenizer, jobs: Sequence[tuple[int, Job]], adapted: Adapted
) -> Tensor:
    """Cross-entropy per answer token, the end token included, averaged per answer and summed over the answers.

    A choice letter thus weighs as much as a whole transcript; by the token it would not be learned.
    """
    end, device = model.config.tokens.im_end, adapted.embeds_BNO.device
    rows = [(tokenizer.encode(job.prompt), [*tokenizer.encode(job.answer), end]) for _, job in jobs]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    # Padding on the right: causal attention never looks at it.
    ids_BP = torch.full((len(rows), longest), end)
    wanted_BP = torch.full((len(rows), longest), IGNORED)
    for b, (prompt, answer) in enumerate(rows):
        ids_BP[b, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        wanted_BP[b, len(prompt) - 1 : len(prompt) + len(answer) - 1] = torch.tensor(answer)
    ids_BP, wanted_BP = ids_BP.to(device), wanted_BP.to(device)
    chosen = [index for index, _ in jobs]
    embeds_BPO = model.embed(ids_BP, adapted.embeds_BNO[chosen], adapted.tokens_B[chosen])
    hidden_BPO = model.decoder.hidden(embeds_BPO)
    asked_BP = wanted_BP != IGNORED
    loss_T = F.cross_entropy(
        model.decoder.lm_head(hidden_BPO[asked_BP]), wanted_BP[asked_BP], reduction="none"
    )
    weight_T = torch.cat([torch.full((len(answer),), 1.0 / len(answer)) for _, answer in rows])
    return (loss_T * weight_T.to(device)).sum()
