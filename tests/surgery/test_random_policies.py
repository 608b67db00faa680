"""Twenty random policies a network, all prunable groups at once: equal to the masked original, costs to the last unit.

The full set of networks is in ``benchmarks/random_policies.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from autoprune.graph import build_graph, prove
from autoprune.models import load_model
from autoprune.testing import check_surgery, randomised

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cifar-resnet20": (lambda: load_model("cifar-resnet20").model, 16),
    "mobilenet_v3_small": (lambda: get_model("mobilenet_v3_small", weights=None), 32),
    "shufflenet_v2_x0_5": (lambda: get_model("shufflenet_v2_x0_5", weights=None), 32),
    "squeezenet1_1": (lambda: get_model("squeezenet1_1", weights=None), 32),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_random_policies(name: str) -> None:
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    model = randomised(make()).double()
    images = torch.randn(2, 3, side, side, dtype=torch.float64)
    graph = prove(model, build_graph(model, images), images)
    check = check_surgery(model, graph, images, policies=20)
    assert check.distance < 1e-10
    assert check.effect > 1e-3
    assert (check.macs_wrong, check.params_wrong) == (0, 0)
