"""Norms over channels that are written by hand, and reductions that are none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.surgery import prune_model
from autoprune.testing import check_surgery

Norm = Callable[[Tensor], Tensor]


class _Net(nn.Module):
    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 12, 1)
        self.head = nn.Conv2d(12, 4, 1)
        self.single = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.second(F.relu(self.norm(self.first(x)))))))


def _layer_norm(x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    return (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def _biased(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1)


def _response(x: Tensor) -> Tensor:
    size = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + x * size / (size.mean(1, keepdim=True) + 1e-6)


def _whole(x: Tensor) -> Tensor:
    return x / (x.abs().mean((1, 2, 3), keepdim=True) + 1e-6)


def _proved(norm: Norm) -> tuple[nn.Module, PruningGraph, Tensor]:
    torch.manual_seed(0)
    model = _Net(norm).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    return model, prove(model, build_graph(model, images), images), images


@pytest.mark.parametrize("norm", [_layer_norm, _biased, _unit, _response, _whole])
def test_norms_written_by_hand_go_over_the_channels_left(norm: Norm) -> None:
    model, graph, images = _proved(norm)
    assert [(group.name, group.size) for group in graph.groups if group.reason is None] == [
        ("first", 8),
        ("second", 12),
    ]
    assert check_surgery(model, graph, images, policies=6).distance < 1e-12


def test_a_hand_written_layer_norm_equals_torchs_after_surgery() -> None:
    model, graph, images = _proved(_layer_norm)
    kept = {"first": torch.arange(0, 8, 3).numpy(), "second": torch.arange(1, 12, 2).numpy()}
    small = prune_model(model, graph, kept)
    first = small.first(images).permute(0, 2, 3, 1)
    expected = F.layer_norm(first, (3,), eps=1e-6).permute(0, 3, 1, 2)
    torch.testing.assert_close(_layer_norm(small.first(images)), expected)
    assert small(images).shape == (2, 4, 6, 6)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda m, x: x * x.softmax(1),
        lambda m, x: torch.cat([x, x.mean(1, keepdim=True)], 1)[:, 1:],  # a channel of its own
    ],
)
def test_other_reductions_of_channels_are_refused(mixed: Callable[[nn.Module, Tensor], Tensor]) -> None:
    class Mixed(_Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.second(mixed(self, F.relu(self.first(x))))))

    torch.manual_seed(0)
    model = Mixed(_unit).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    assert graph.group("first").reason is not None
    assert graph.group("second").reason is None
