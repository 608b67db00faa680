"""Networks that are no classifiers of images: cut at random against the masked dense network, at a second input size too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.graph import parts_and_inputs, proved_graph
from autoprune.testing import check_surgery

from .._sample import FULL

models = pytest.importorskip("torchvision.models")


class Separator(nn.Module):
    """Two voices out of one: an encoder, dilated separable blocks with residual connections, masks, a decoder; as Conv-TasNet."""

    def __init__(self, width: int = 16, inner: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.encoder, self.norm = nn.Conv1d(1, width, 16, 8, bias=False), nn.GroupNorm(1, width)
        self.enter, self.masks = nn.Conv1d(width, width, 1), nn.Conv1d(width, 2 * width, 1)
        self.decoder = nn.ConvTranspose1d(width, 1, 16, 8, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(nn.Conv1d(width, inner, 1), nn.PReLU(), nn.GroupNorm(1, inner)),
                *(nn.Conv1d(inner, inner, 3, padding=2**place, dilation=2**place, groups=inner), nn.PReLU()),
                *(nn.GroupNorm(1, inner), nn.Conv1d(inner, width, 1)),
            )
            for place in range(blocks)
        )

    def forward(self, wave: Tensor) -> Tensor:
        encoded = F.relu(self.encoder(wave))
        hidden = self.enter(self.norm(encoded))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        masks = torch.sigmoid(self.masks(hidden)).chunk(2, dim=1)
        return torch.cat([self.decoder(encoded * mask) for mask in masks], dim=1)


BARE: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 5}
DETECTORS = models.detection
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...], list[str], float]] = {
    "Conv-TasNet": (Separator, (1, 512), (1, 1000), [], 0.8),
    "R3D-18": (lambda: models.video.r3d_18(weights=None, num_classes=5), (3, 4, 32, 32), (3, 8, 48, 48), [], 0.9),
    "DeepLabV3": (lambda: models.segmentation.deeplabv3_resnet50(**BARE), (3, 64, 64), (3, 96, 96), [], 0.9),
    "SSDlite": (
        lambda: DETECTORS.ssdlite320_mobilenet_v3_large(**BARE),
        (3, 320, 320),
        (3, 320, 320),
        ["backbone"],
        0.8,
    ),
    "RetinaNet": (
        lambda: DETECTORS.retinanet_resnet50_fpn(**BARE, min_size=64, max_size=96),
        (3, 64, 64),
        (3, 96, 96),
        ["backbone"],
        0.9,
    ),
    "Faster R-CNN": (
        lambda: DETECTORS.fasterrcnn_mobilenet_v3_large_320_fpn(**BARE, min_size=96, max_size=96),
        (3, 96, 96),
        (3, 64, 96),
        ["backbone"],
        0.9,
    ),
    "Mask R-CNN": (
        lambda: DETECTORS.maskrcnn_resnet50_fpn(**BARE, min_size=64, max_size=96),
        (3, 64, 64),
        (3, 96, 96),
        ["backbone"],
        0.9,
    ),
    "Keypoint R-CNN": (
        lambda: DETECTORS.keypointrcnn_resnet50_fpn(**BARE, min_size=64, max_size=96),
        (3, 64, 64),
        (3, 96, 96),
        ["backbone"],
        0.9,
    ),
}
"""Networks, shapes of their inputs, the part that is pruned, and the least share of its layers whose channels can go."""


@pytest.mark.parametrize("name", NETWORKS if FULL else ["Conv-TasNet"])
def test_most_layers_are_prunable_and_the_small_network_is_the_dense_one_masked(name: str) -> None:
    make, shape, other, part, share = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    graph = proved_graph(model, torch.rand(2, *shape), part=part)
    assert graph.dynamic_batch
    prunable = {producer for group in graph.groups if group.reason is None for producer in group.producers}
    assert len(prunable) >= share * len(graph.layers)
    model.double()
    for size, count in ((shape, 2), (other, 1)):
        traced, inputs = parts_and_inputs(model, torch.rand(count, *size, dtype=torch.float64), part)
        found = check_surgery(traced, graph, inputs, policies=2)
        assert found.distance < 1e-9
        assert found.effect > 1e-3
        assert found.params_wrong == 0
        assert size != shape or found.macs_wrong == 0
