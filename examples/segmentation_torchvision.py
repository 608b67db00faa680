"""A segmentation network of torchvision: its backbone is pruned, judged by the maps of classes of the whole network.

The network's answer is a dictionary of maps; labels are not needed. The pictures are discs and squares on noise, the weights
random but for a few steps of training: with your own weights and pictures nothing else changes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.segmentation import LRASPP

import autoprune

SIDE, CLASSES, STEPS = 64, 3, 40


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pictures (count, 3, 64, 64) and maps (count, 64, 64) of 0 for background, 1 for discs, 2 for squares."""
    random = torch.Generator().manual_seed(seed)
    pictures, maps = 0.3 * torch.randn(count, 3, SIDE, SIDE, generator=random), torch.zeros(count, SIDE, SIDE).long()
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for picture, labels in zip(pictures, maps, strict=True):
        for kind in (1, 2):
            y, x = torch.randint(12, SIDE - 12, (2,), generator=random).tolist()
            down, right = (row - y).abs(), (column - x).abs()
            inside = down**2 + right**2 < 121 if kind == 1 else torch.maximum(down, right) < 10
            picture[:, inside] += torch.rand(3, 1, generator=random) + 0.5
            labels[inside] = kind
    return pictures, maps


def trained() -> nn.Module:
    """Return the network after some steps of training."""
    torch.manual_seed(0)
    backbone = create_feature_extractor(resnet18(weights=None), {"layer1": "low", "layer3": "high"})
    net = LRASPP(backbone, low_channels=64, high_channels=256, num_classes=CLASSES).train()
    pictures, maps = scenes(128, seed=1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=2e-3)
    weight = torch.tensor([0.2, 1.0, 1.0])  # most of a picture is background
    for step in range(STEPS):
        chosen = slice(16 * step % 128, 16 * step % 128 + 16)
        optimiser.zero_grad()
        F.cross_entropy(net(pictures[chosen])["out"], maps[chosen], weight=weight).backward()
        optimiser.step()
    return net.eval()


def mean_iou(net: nn.Module, pictures: Tensor, maps: Tensor) -> float:
    """Return the mean intersection over union of the classes."""
    with torch.no_grad():
        found = net(pictures)["out"].argmax(1)
    both = torch.stack([((found == kind) & (maps == kind)).sum() for kind in range(CLASSES)])
    either = torch.stack([((found == kind) | (maps == kind)).sum() for kind in range(CLASSES)])
    return (both / either.clamp_min(1)).mean().item()


def main() -> None:
    """Search without targets, and measure on pictures that the search has not seen."""
    net = trained()
    pictures, _ = scenes(48, seed=1)
    result = autoprune.search(
        net,
        pictures[:2],
        calibration=pictures,
        evaluate=scenes(24, seed=2)[0],
        part="backbone",
        divergence="kl",
        budget=0.6,
        episodes=1,
        baselines=["uniform"],
        finish_policies=1,
        finish_steps=0,
    )
    print(result.table)
    unseen = scenes(48, seed=3)
    dense, small = (100 * mean_iou(each, *unseen) for each in (net, result.model))
    print(
        f"Mean IoU: dense {dense:.1f} %, with 0.6 of the backbone's MACs {small:.1f} %; no map was read by the search."
    )


if __name__ == "__main__":
    main()
