"""Does the rewritten graph answer as the module does, and is what the rewritings promise gone from it?"""

from __future__ import annotations

import pytest
import torch
from deploybench.routes import graph
from torch import nn

aten = torch.ops.aten


class Shared(nn.Module):
    """A convolution that two layers read: its weights may not change."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.convolution(x)
        output: torch.Tensor = y + self.norm(y)
        return output


class Means(nn.Module):
    """Means of all kinds: the first two are poolings, the others are not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * x.mean((-2, -1), keepdim=True)
        return x.mean((2, 3)) + x.mean(2).mean(2) + x.mean((1, 2))[:, :3]


# A module for [2, 3, 8, 8], and what its graph must hold no more. Epsilon is large, so that one that is lost is seen.
MODULES: dict[str, tuple[nn.Module, list[torch._ops.OpOverload]]] = {
    "into the convolution": (nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0.3)), [aten.add.Tensor]),
    "with a bias, grouped": (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6, eps=0.3)), [aten.add.Tensor]),
    "before it": (nn.Sequential(nn.BatchNorm2d(3, eps=0.3), nn.ReLU(), nn.Conv2d(3, 4, 3)), []),
    "twice": (nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, eps=0.3)), []),
    "of a linear layer": (nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5, eps=0.3)), []),
    "of a sequence": (nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3, eps=0.3)), []),
    "without weights": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False, eps=0.3)), [aten.add.Tensor]),
    "same padding": (nn.Sequential(nn.Conv2d(3, 4, (3, 5), padding="same", dilation=(2, 1), bias=False), nn.BatchNorm2d(4, eps=0.3)),
                     [aten.conv2d.padding, aten.add.Tensor]),
    "valid padding": (nn.Conv2d(3, 4, 3, stride=2, padding="valid"), [aten.conv2d.padding]),
    "wider on one side": (nn.Conv2d(3, 4, 2, padding="same"), []),
    "of a shared convolution": (Shared(), []),
    "hard-swish": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardsigmoid()), [aten.hardsigmoid.default]),
    "pooling": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), [aten.adaptive_avg_pool2d.default]),
    "pooling to 2 x 2": (nn.AdaptiveAvgPool2d(2), []),
    "pooling to what it is": (nn.AdaptiveAvgPool2d(8), [aten.adaptive_avg_pool2d.default]),
    "means": (Means(), []),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_the_rewritten_graph_gives_the_same(name: str) -> None:
    module, gone = MODULES[name]
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in (*module.parameters(), *(one for one in module.buffers() if one.ndim)):
            tensor.uniform_(0.2, 2)  # no statistic is 0 or 1, as it is in a new module
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        rewritten = graph.specialise(module.eval(), images)
        torch.testing.assert_close(rewritten(images), module(images), rtol=1e-5, atol=1e-5)
    called = {node.target for node in rewritten.graph.nodes}
    assert not called & {aten._native_batch_norm_legit_no_training.default, *gone}
