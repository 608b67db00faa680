"""The oracle of the comparison with another tool tells right from wrong without knowing who pruned."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from autoprune.testing import randomised

from ._benchmarks import benchmark

KEPT = [0, 2, 3, 7]


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    return benchmark("_judge")


def network(judge: ModuleType, width: int, norm: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, width, 3), norm, nn.Sigmoid(), nn.Conv2d(width, 5, 3), nn.Flatten())
    judged: nn.Sequential = judge.distinct(randomised(model).double())
    return judged


@torch.no_grad()
def pair(judge: ModuleType, norm: type[nn.Module], reads: list[int]) -> tuple[nn.Module, nn.Module]:
    """Return a network and one with half of its channels whose last layer reads the dense one's columns ``reads``."""
    make = (lambda c: nn.GroupNorm(1, c)) if norm is nn.GroupNorm else norm
    dense, small = network(judge, 8, make(8)), network(judge, 4, make(4))
    for name, tensor in small[0].named_parameters():
        tensor.copy_(dense[0].get_parameter(name)[KEPT])
    for name, tensor in small[1].state_dict().items():
        tensor.copy_(dense[1].state_dict()[name][KEPT] if tensor.dim() else tensor)
    small[3].weight.copy_(dense[3].weight[:, reads])
    small[3].bias.copy_(dense[3].bias)
    return dense, small


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.GroupNorm])
def test_right_and_wrong_are_told_apart(judge: ModuleType, norm: type[nn.Module]) -> None:
    images: Tensor = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert judge.distance(*pair(judge, norm, KEPT), images, None) < 1e-12
    assert judge.distance(*pair(judge, norm, [0, 2, 3, 6]), images, None) > 1e-3
    assert judge.distance(*pair(judge, norm, [2, 0, 3, 7]), images, None) > 1e-3


def test_weights_of_ones_own_are_unlike(judge: ModuleType) -> None:
    dense, small = pair(judge, nn.BatchNorm2d, KEPT)
    with torch.no_grad():
        small.get_parameter("3.weight").mul_(1.01)
    with pytest.raises(judge.UnlikeError, match="no part of the dense one"):
        judge.distance(dense, small, torch.randn(2, 3, 8, 8, dtype=torch.float64), None)
