"""Surgery and costs on graphs read from real models: equal to the masked original, to the counter, and loadable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v3_small, squeezenet1_1
from torchvision.ops import SqueezeExcitation

from autoprune.cost import CostModel, Projector
from autoprune.graph import build_graph
from autoprune.groups import allowed_counts
from autoprune.models import load_model
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.surgery import Policy, load_pruned, prune_model

from ._networks import masked, randomised


class Residual(nn.Module):
    """Two grouped bottlenecks joined by additions, flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(12, 16, 1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1, groups=4),
                nn.ReLU(),
                nn.Conv2d(16, 12, 1),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(12 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = (x + block(x)).relu()
        return cast(Tensor, self.head(nn.functional.max_pool2d(x, 2).flatten(1)))


class Gated(nn.Module):
    """Depthwise convolution, squeeze and excitation, concatenation, average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1)
        self.right = nn.Conv2d(3, 6, 1)
        self.depthwise = nn.Conv2d(14, 14, 3, padding=1, groups=14)
        self.gate = SqueezeExcitation(14, 5)
        self.out = nn.Conv2d(14, 9, 1)
        self.head = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x).relu(), self.right(x).relu()], dim=1)
        x = self.gate(self.depthwise(x).relu())
        return cast(Tensor, self.head(self.out(x).relu().mean((2, 3))))


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "residual": (Residual, 8),
    "gated": (Gated, 6),
    "cifar-resnet20": (lambda: load_model("cifar-resnet20", weights=None).model, 16),
    "mobilenet": (lambda: mobilenet_v3_small(num_classes=7), 32),
    "squeezenet": (lambda: squeezenet1_1(num_classes=7), 40),
}


@pytest.mark.parametrize("name", CASES)
def test_any_policy_on_a_traced_graph(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, side = CASES[name]
    model = make()
    if name in ("residual", "gated"):
        randomised(model)
    model.eval()
    image = torch.randn(2, 3, side, side)
    graph = build_graph(model, image)
    decisions = [group for group in graph.groups if group.reason is None]
    assert len(decisions) >= 3
    cost = CostModel(graph, decisions)
    budget = cost.dense_macs * 6 // 10
    projector = Projector([(cost.macs_form, budget)], [allowed_counts(group.size) for group in decisions])
    rng = np.random.default_rng(0)
    for _ in range(3):
        counts = projector.project(rng.random(len(decisions)))
        assert projector.is_full(counts)
        kept = {
            group.name: np.sort(rng.choice(group.size, count, replace=False))
            for group, count in zip(decisions, counts, strict=True)
        }
        small = prune_model(model, graph, kept)
        with torch.no_grad():
            torch.testing.assert_close(small(image), masked(model, graph, kept)(image), rtol=1e-4, atol=1e-4)
            with FlopCounterMode(display=False) as counter:
                small(image[:1])
        assert counter.get_total_flops() == 2 * cost.macs(counts)
        assert sum(parameter.numel() for parameter in small.parameters()) == cost.params(counts)

    Policy(groups=Policy.groups_of(decisions, kept)).save(tmp_path / "policy.json")
    save_safetensors_atomic(tmp_path / "m.safetensors", small.state_dict())
    fresh: Any = make().eval()
    loaded = load_pruned(
        fresh,
        build_graph(fresh, image),
        Policy.load(tmp_path / "policy.json"),
        load_safetensors(tmp_path / "m.safetensors"),
    )
    with torch.no_grad():
        assert torch.equal(loaded(image), small(image))
