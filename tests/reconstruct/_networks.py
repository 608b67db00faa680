"""Small trained-looking networks and their plans, for the tests of reconstruction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import PruningGraph, build_graph
from autoprune.reconstruct import Plan


class Residual(nn.Module):
    """Stem, one residual block with a depthwise convolution in it, a 1x1 projection shortcut, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.expand_bn = nn.BatchNorm2d(12)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.depth_bn = nn.BatchNorm2d(12)
        self.project = nn.Conv2d(12, 10, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(10)
        self.short = nn.Conv2d(8, 10, 1, stride=2, bias=False)
        self.short_bn = nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(x)))
        y = F.relu(self.expand_bn(self.expand(x)))
        y = F.relu(self.depth_bn(self.depth(y)))
        y = self.project_bn(self.project(y))
        y += self.short_bn(self.short(x))
        return self.head(F.relu(y).mean((2, 3)))


class Plain(nn.Module):
    """Biases instead of BatchNorm, a dilated convolution, channels flattened into a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 7, 3, padding=2, dilation=2)
        self.hidden = nn.Linear(7 * 16, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        x = F.max_pool2d(x, 2)
        return self.head(F.relu(self.hidden(torch.flatten(x, 1))))


class Grouped(nn.Module):
    """Convolutions of two groups, which lose channels inside the groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2, bias=False)
        self.grouped_bn = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 10, 3, groups=2)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(x)))
        x = F.relu(self.grouped_bn(self.grouped(x)))
        return self.head(F.relu(self.last(x)).mean((2, 3)))


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorms statistics of the network's own activations and affine parameters that differ by channel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            width = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / width**0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + torch.rand(module.num_features, generator=generator))
                module.bias.copy_(torch.randn(module.num_features, generator=generator) / 3)
                module.momentum = None
        network.train()
        network(images(256, seed + 1))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
    return network.eval()


def images(count: int, seed: int = 5) -> Tensor:
    """Smooth random images, shape (count, 3, 8, 8)."""
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, scale_factor=2, mode="bilinear") + 0.3 * torch.randn(
        count, 3, 8, 8, generator=torch.Generator().manual_seed(seed + 1)
    )


def planned(network: nn.Module) -> tuple[PruningGraph, Plan]:
    graph = build_graph(network, images(2))
    return graph, Plan(graph, network)
