"""Networks that take more than one tensor, by position, by name or nested: traced, proved and cut like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import proved_graph
from autoprune.model_guard import ModelInputs
from autoprune.testing import check_surgery


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Two(nn.Module):
    """Two images of different sizes, whose features are added and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.norm, self.join, self.head = nn.BatchNorm2d(8), nn.Conv2d(16, 12, 1), nn.Linear(12, 4)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = F.relu(self.norm(self.left(left))), F.relu(self.right(right))
        return self.head(F.relu(self.join(torch.cat([a + b, a], dim=1))).mean((2, 3)))


class Dict(Two):
    """The same, out of a dict, into a dict."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"scores": super().forward(batch["left"], batch["right"])}


class Keywords(Two):
    """The same by name only, with a number that is no tensor."""

    def forward(self, *, left: Tensor, right: Tensor, scale: float = 2.0) -> Tensor:
        return super().forward(left * scale, right)


class Condition(nn.Module):
    """A signal and a whole number for each item, as a network conditioned on a class has them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 8, 5, padding=2), nn.Conv1d(8, 30, 5, padding=2)
        self.table, self.last = nn.Embedding(10, 8), nn.Conv1d(30, 2, 1)

    def forward(self, signal: Tensor, label: Tensor) -> Tensor:
        hidden = F.relu(self.first(signal)) + self.table(label)[:, :, None]
        return self.last(F.relu(self.second(hidden)))


class Volume(nn.Module):
    """A list of two volumes, into a tuple of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv3d(1, 30, 3), nn.Conv3d(30, 4, 1), nn.BatchNorm3d(30)

    def forward(self, volumes: list[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.second(F.relu(self.norm(self.first(volume)))) for volume in volumes)


@dataclass
class Sample:
    image: Tensor
    mask: Tensor


class OfSample(Two):
    def forward(self, sample: Sample) -> Tensor:
        return super().forward(sample.image * sample.mask, sample.mask)


class Branching(Two):
    """What torch.export refuses, as its path hangs on values."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if float(left.abs().sum()) >= 0:
            return super().forward(left, right)
        return left


IMAGE, SMALL = noise(3, 3, 8, 8), noise(3, 1, 16, 16)
CASES: dict[str, tuple[type[nn.Module], Any, int]] = {
    "two": (Two, (IMAGE, SMALL), 2),
    "two by name": (Two, {"right": SMALL, "left": IMAGE}, 2),
    "dict": (Dict, {"left": IMAGE, "right": SMALL}, 2),
    "keywords": (Keywords, {"left": IMAGE, "right": SMALL}, 2),
    "a number by name": (Keywords, ModelInputs(kwargs={"scale": 0.5, "right": SMALL, "left": IMAGE}), 2),
    "whole numbers": (Condition, (noise(3, 2, 20), torch.tensor([1, 7, 3])), 2),
    "a list of volumes": (Volume, [noise(3, 1, 6, 6, 6), noise(3, 1, 5, 5, 5)], 1),
    "data class": (OfSample, Sample(IMAGE, noise(3, 1, 8, 8)), 2),
    "recorded": (Branching, (IMAGE, SMALL), 2),
}
"""Networks, what they are called with, and how many groups can be pruned."""


@pytest.mark.parametrize("name", CASES)
def test_the_small_network_is_the_dense_one_masked(name: str) -> None:
    make, example, prunable = CASES[name]
    torch.manual_seed(0)
    model = make().double().eval()
    if name == "data class":
        model.right = nn.Conv2d(1, 8, 3, padding=1).double()
    graph = proved_graph(model, example)
    assert sum(group.reason is None for group in graph.groups) == prunable
    assert graph.dynamic_batch
    found = check_surgery(model, graph, example, policies=4, seed=1)
    assert found.distance < 1e-9
    assert found.effect > 1e-3
    assert (found.macs_wrong, found.params_wrong) == (0, 0)
