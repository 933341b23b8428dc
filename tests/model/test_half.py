"""bf16 layers against fp32 ones."""

import torch
from torch import nn

from model import half


@torch.inference_mode()
def test_bf16_linears_are_near_and_everything_between_stays_fp32() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 96), nn.LayerNorm(96), nn.Sequential(nn.Linear(96, 32, bias=False))
    ).eval()
    x = torch.randn(1, 50, 64)
    expected = net(x)
    half.linears(net)
    assert not any(isinstance(module, nn.Linear) for module in net.modules())
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    found = net(x)
    assert found.dtype == torch.float32
    error = (found - expected).norm() / expected.norm()
    assert 0 < error < 0.01
