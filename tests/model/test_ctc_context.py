import torch

from model.ctc_context import CtcContext
from tests.model import tiny


def shaken(blocks: int = 2) -> CtcContext:
    torch.manual_seed(0)
    context = CtcContext(16, blocks).eval()
    for block in context.blocks:
        torch.nn.init.normal_(block.out.weight, std=0.5)  # type: ignore[arg-type]
    return context


def test_fresh_it_is_the_identity() -> None:
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(CtcContext(16, 2)(x, torch.ones(2, 9, dtype=torch.bool)), x)


@torch.no_grad()
def test_padding_and_neighbours_change_nothing() -> None:
    context = shaken()
    clips = [torch.randn(5, 16), torch.randn(9, 16)]
    alone = [context(clip[None], torch.ones(1, len(clip), dtype=torch.bool))[0] for clip in clips]
    padded = torch.stack([torch.cat([clips[0], torch.full((4, 16), 7.0)]), clips[1]])
    valid = torch.arange(9) < torch.tensor([[5], [9]])
    together = context(padded, valid)
    torch.testing.assert_close(together[0, :5], alone[0])
    torch.testing.assert_close(together[1], alone[1])


@torch.no_grad()
def test_neighbouring_tokens_are_seen() -> None:
    context = shaken()
    x = torch.randn(1, 9, 16)
    changed = x.clone()
    changed[0, 6] += 1.0
    valid = torch.ones(1, 9, dtype=torch.bool)
    moved = (context(changed, valid) - context(x, valid)).abs().sum(-1)[0]
    assert moved[4] > 0
    assert moved[8] > 0


@torch.no_grad()
def test_the_model_uses_it_when_its_config_says_so() -> None:
    model = tiny.model(ctc_blocks=1)
    assert model.ctc_context is not None
    assert tiny.model().ctc_context is None
    states = torch.randn(40, 32)
    from model.eureka import join

    adapted = model.adapt(join([states, states[:20]]))
    log_probs = model.ctc_log_probs(adapted.embeds_BNO, adapted.valid_BN())
    alone = model.ctc_log_probs(model.adapt(join([states[:20]])).embeds_BNO)
    torch.testing.assert_close(log_probs[1, :5], alone[0], rtol=1e-4, atol=1e-4)
