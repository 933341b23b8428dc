"""The grouped path against the plain loop, forward and backward; no graph break; the load-balance loss."""

import pytest
import torch

from model.adapter import MoEAdapter, RouterStats
from model.config import AdapterConfig

CONFIG = AdapterConfig(experts=4, top_k=2, shared_experts=1, hidden=16, expert_out=8, out=12)


def adapter(shared: int = 1) -> MoEAdapter:
    torch.manual_seed(0)
    return MoEAdapter(AdapterConfig(**{**CONFIG.__dict__, "shared_experts": shared}), d_model=8)


@pytest.mark.parametrize("shared", [0, 1, 2])
@pytest.mark.parametrize("tokens", [1, 3, 50])
def test_grouped_equals_loop(shared: int, tokens: int) -> None:
    results = []
    for path in ("grouped", "loop"):
        model = adapter(shared)
        model.path = path
        torch.manual_seed(tokens)
        states = torch.randn(2, tokens * 4, 8, requires_grad=True)
        out, stats = model(states)
        (out.square() * torch.arange(12)).sum().backward()
        results.append((out, stats.probabilities_TE, states.grad, *[p.grad for p in model.parameters()]))
    for grouped, loop in zip(*results, strict=True):
        torch.testing.assert_close(grouped, loop, atol=2e-4, rtol=1e-4)


def test_experts_without_tokens() -> None:
    model = adapter()
    with torch.no_grad():
        model.router.weight.zero_()
        model.router.weight[0] += 1.0
        model.router.weight[3] += 0.5
    states = torch.rand(1, 40, 8)  # positive inputs: experts 0 and 3 take everything
    out, stats = model(states)
    assert set(stats.chosen_TK.unique().tolist()) == {0, 3}
    model.path = "loop"
    torch.testing.assert_close(out, model(states)[0])
    out.sum().backward()
    assert model.w1.grad is not None
    assert model.w1.grad[1].abs().sum() == 0


def test_compiles_without_a_graph_break() -> None:
    model = adapter()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for tokens in (6, 9):
        states = torch.randn(1, tokens * 4, 8)
        out, _ = compiled(states)
        out.sum().backward()
        torch.testing.assert_close(out, model(states)[0], atol=1e-5, rtol=1e-5)


def test_load_balance_loss() -> None:
    even = RouterStats(torch.full((8, 4), 0.25), torch.arange(8).reshape(8, 1) % 4)
    assert even.load_balance_loss().item() == pytest.approx(1.0)
    one = RouterStats(torch.eye(4)[[0] * 8], torch.zeros(8, 1, dtype=torch.long))
    assert one.load_balance_loss().item() == pytest.approx(4.0)
    half = torch.arange(8) < 4  # the padding must not count
    mixed = RouterStats(
        torch.eye(4)[[0, 1, 2, 3, 0, 0, 0, 0]], torch.tensor([[0], [1], [2], [3]] + [[0]] * 4)
    )
    assert mixed.load_balance_loss(half).item() == pytest.approx(1.0)
