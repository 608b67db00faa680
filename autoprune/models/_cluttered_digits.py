"""An embedded network: a small VGG-like one that reads the digit in the middle of a cluttered, noisy scene.

It has no slack but where it needs none: its third layer is wide, at the high resolution, and the others are narrow, so that
narrowing all alike costs accuracy that another distribution of the same multiply-adds keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprune.data.cluttered_digits import MEAN, STD, read_scenes
from autoprune.models._trained import Embedded, descend, trained

_LAYERS = ((12, 1), (12, 2), (44, 1), (20, 2), (20, 1), (20, 2), (20, 1))  # channels, stride
_EPOCHS, _BATCH, _RATE = 4, 100, 0.1


class ClutteredDigitsNet(nn.Module):
    """A plain convolutional network for 1x32x32 images: seven 3x3 convolutions with BatchNorm and a classifier.

    Args:
        num_classes: Number of outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in _LAYERS:
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 32, 32) to logits (B, num_classes)."""
        logits: Tensor = self.linear(self.features(x).mean((2, 3)))
        return logits


def train_cluttered_digits() -> tuple[dict[str, Tensor], float]:
    """Train the network on the training scenes; the accuracy is that on the search part's. See `trained`."""
    (x, labels), held = _scenes("train"), _scenes("search")
    return trained(ClutteredDigitsNet, lambda model: _fit(model, x, labels), held)


def _scenes(part: str) -> tuple[Tensor, Tensor]:
    images, labels = (torch.from_numpy(array) for array in read_scenes(part))
    return (images.float() / 255 - MEAN[0]) / STD[0], labels


def _fit(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Train ``model`` on ``x`` (N, 1, 32, 32)."""
    generator = torch.Generator().manual_seed(0)
    steps = len(x) // _BATCH
    orders = torch.cat([torch.randperm(len(x), generator=generator)[: steps * _BATCH] for _ in range(_EPOCHS)])
    rows = orders.view(-1, _BATCH)
    descend(model, lambda step: (x[rows[step]], labels[rows[step]]), steps=len(rows), rate=_RATE)


CLUTTERED_DIGITS = Embedded(
    "cluttered-digits",
    "1",
    ClutteredDigitsNet,
    train_cluttered_digits,
    "scenes of scikit-learn's digits (once, about half a minute)",
)
