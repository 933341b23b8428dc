"""The losses of one batch: CTC on the adapter's output, next token on the decoder's, balance of the experts.

In: model, tokenizer, examples and their jobs. Out: scalar losses and how many tokens they are means of.
Knows no optimizer. Invariant: padding contributes to no loss; windows whose text does not fit CTC's frames are left
out of it, not cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from model.eureka import Adapted, Encoded, Eureka, join
from model.tokenizer import Tokenizer
from model.train.batches import FRAMES_PER_TOKEN, Example, Job, target_text
from model.train.cache import LIVE_LAYERS
from model.train.probes import Probes

IGNORED = -100
FRAMES_PER_MASK = 75  # 1.5 s
LONGEST_MASK_FRAMES = 12
MASKED_CHANNELS = 0.1


@dataclass(frozen=True)
class Losses:
    """Means per target token (CTC, decoder) and the router's balance (1 is perfect); None = not computed."""

    ctc: Tensor
    decoder: Tensor | None
    balance: Tensor
    probes: Tensor

    def total(self, ctc_weight: float, balance_weight: float, probe_weight: float) -> Tensor:
        """The training objective."""
        whole = self.ctc * ctc_weight + (self.balance - 1.0) * balance_weight + self.probes * probe_weight
        return whole if self.decoder is None else whole + self.decoder


def states_of(model: Eureka, examples: Sequence[Example], generator: torch.Generator | None) -> Encoded:
    """Cached states through the encoder's last layers, as a batch; with a generator, parts are blanked out after that.

    (SpecAugment on the encoder's output.)
    """
    below = join([example.states_LD.float() for example in examples])
    inside_BL = torch.arange(below.states_BLD.shape[1]) < below.tokens_B[:, None] * FRAMES_PER_TOKEN
    states_BLD = model.audio_encoder.above(below.states_BLD, inside_BL, LIVE_LAYERS)
    if generator is None:
        return Encoded(states_BLD, below.tokens_B)
    clips = [
        states_LD[: example.item.frames] for states_LD, example in zip(states_BLD, examples, strict=True)
    ]
    return join([mask(clip, generator) for clip in clips])


def mask(clip_LD: Tensor, generator: torch.Generator) -> Tensor:
    """Zero short spans of time, a fifth of the clip at most, and a random tenth of the channels all along."""
    frames, channels = clip_LD.shape
    keep_D = torch.rand(channels, generator=generator) >= MASKED_CHANNELS
    clip_LD = clip_LD * keep_D
    masks = max(2, frames // FRAMES_PER_MASK)
    longest = min(LONGEST_MASK_FRAMES, frames // (5 * masks))
    for _ in range(masks if longest > 0 else 0):
        width = int(torch.randint(0, longest + 1, (1,), generator=generator))
        start = int(torch.randint(0, frames - width + 1, (1,), generator=generator))
        clip_LD[start : start + width] = 0.0
    return clip_LD


def batch_losses(
    model: Eureka,
    probes: Probes,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    jobs: Sequence[tuple[int, Job]],
    encoded: Encoded,
) -> Losses:
    """All losses of a batch; `jobs` are the decoder's, each with the index of its window; without any it is not run."""
    adapted = model.adapt(encoded)
    return Losses(
        ctc_loss(model, tokenizer, [example.item.text for example in examples], adapted),
        decoder_loss(model, tokenizer, jobs, adapted) if jobs else None,
        adapted.load_balance_loss(),
        probes(adapted, [example.item.answers for example in examples]),
    )


def ctc_loss(model: Eureka, tokenizer: Tokenizer, texts: Sequence[str | None], adapted: Adapted) -> Tensor:
    """Mean over the target tokens; a window without words counts as one token (all blank)."""
    log_probs_BNV = model.ctc_log_probs(adapted.embeds_BNO, adapted.valid_BN())
    targets = [None if text is None else tokenizer.encode(target_text(text)) for text in texts]
    keep = [
        b
        for b, ids in enumerate(targets)
        if ids is not None and frames_needed(ids) <= int(adapted.tokens_B[b])
    ]
    if not keep:
        return log_probs_BNV.sum() * 0.0
    kept = [targets[b] or [] for b in keep]
    lengths = torch.tensor([len(ids) for ids in kept])
    loss_B = F.ctc_loss(
        log_probs_BNV[keep].transpose(0, 1),
        torch.tensor([token for ids in kept for token in ids], dtype=torch.long),
        adapted.tokens_B[keep],
        lengths,
        blank=model.blank,
        reduction="none",
    )
    return loss_B.sum() / lengths.clamp(min=1).sum()


def frames_needed(ids: Sequence[int]) -> int:
    """Audio tokens that CTC needs for these ids: repeats need a blank between them."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def decoder_loss(
    model: Eureka, tokenizer: Tokenizer, jobs: Sequence[tuple[int, Job]], adapted: Adapted
) -> Tensor:
    """Cross-entropy per answer token, the end token included, averaged per answer and then over the answers.

    A choice letter thus weighs as much as a whole transcript; by the token it would not be learned.
    """
    end = model.config.tokens.im_end
    rows = [(tokenizer.encode(job.prompt), [*tokenizer.encode(job.answer), end]) for _, job in jobs]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    # Padding on the right: causal attention never looks at it.
    ids_BP = torch.full((len(rows), longest), end)
    wanted_BP = torch.full((len(rows), longest), IGNORED)
    for b, (prompt, answer) in enumerate(rows):
        ids_BP[b, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
        wanted_BP[b, len(prompt) - 1 : len(prompt) + len(answer) - 1] = torch.tensor(answer)
    chosen = [index for index, _ in jobs]
    embeds_BPO = model.embed(ids_BP, adapted.embeds_BNO[chosen], adapted.tokens_B[chosen])
    hidden_BPO = model.decoder.hidden(embeds_BPO)
    asked_BP = wanted_BP != IGNORED
    loss_T = F.cross_entropy(
        model.decoder.lm_head(hidden_BPO[asked_BP]), wanted_BP[asked_BP], reduction="none"
    )
    weight_T = torch.cat([torch.full((len(answer),), 1.0 / len(answer)) for _, answer in rows])
    return (loss_T * weight_T).sum() / len(rows)
