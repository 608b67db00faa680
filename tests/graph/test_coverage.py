"""Networks of torchvision's convolutional families: proved, at least 95% of their convolutions prunable, and right."""

from __future__ import annotations

import pytest
import torch
import torchvision

from autoprune.graph import build_graph, prove
from autoprune.surgery import prune_model

from ._oracle import convs_between, random_kept, zeroed

FAMILIES = [
    "resnet18",
    "resnext50_32x4d",
    "vgg11_bn",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
    "squeezenet1_1",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=10).eval()
    images = torch.randn(2, 3, 64, 64) if name not in ("densenet121", "resnext50_32x4d") else torch.randn(2, 3, 32, 32)
    graph = prove(model, build_graph(model, images), images)
    convs = convs_between(graph)
    assert sum(convs) >= 0.95 * len(convs)
    kept = random_kept(graph, seed=1)
    with torch.no_grad():
        small, dense = prune_model(model, graph, kept)(images), zeroed(model, graph, kept)(images)
    torch.testing.assert_close(small, dense, rtol=1e-3, atol=1e-4 * float(dense.abs().max()))
