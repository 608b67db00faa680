"""The embedded default: a small residual network on scikit-learn's digits, trained on first use and cached."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.data.digits import MEAN, STD, TRAIN, read_digits
from autoprune.models._trained import Embedded, descend, trained

_WIDTHS = ((12, 1), (24, 2), (24, 1), (48, 2))  # of each block: channels, stride
_EPOCHS, _BATCH, _RATE = 30, 50, 0.1


class _Block(nn.Module):
    """A basic residual block; the shortcut is a 1x1 convolution where the shape changes, else the identity."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class DigitsNet(nn.Module):
    """A residual network for 1x8x8 images: a stem, four basic blocks and a classifier.

    Args:
        num_classes: Number of outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        blocks, channels = [], 12
        for width, stride in _WIDTHS:
            blocks.append(_Block(channels, width, stride))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 8, 8) to logits (B, num_classes)."""
        x = self.blocks(F.relu(self.bn1(self.conv1(x))))
        logits: Tensor = self.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def train_digits() -> tuple[dict[str, Tensor], float]:
    """Train the network on the training part, images shifted by up to one pixel; see `trained`."""
    images, labels = (torch.from_numpy(array) for array in read_digits())
    x = (images - MEAN[0]) / STD[0]
    return trained(DigitsNet, lambda model: _fit(model, x[:TRAIN], labels[:TRAIN]), (x[TRAIN:], labels[TRAIN:]))


def _fit(model: nn.Module, x: Tensor, labels: Tensor) -> None:
    """Train ``model`` on ``x`` (N, 1, 8, 8)."""
    generator = torch.Generator().manual_seed(0)
    steps = len(x) // _BATCH
    blank = float(x.min())
    order = x.new_empty(0, dtype=torch.long)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        nonlocal order
        if step % steps == 0:
            order = torch.randperm(len(x), generator=generator)[: steps * _BATCH].view(steps, _BATCH)
        rows = order[step % steps]
        padded = F.pad(x[rows], (1, 1, 1, 1), value=blank)
        row, column = torch.randint(0, 3, (2,), generator=generator).tolist()
        return padded[:, :, row : row + 8, column : column + 8], labels[rows]

    descend(model, batch, steps=_EPOCHS * steps, rate=_RATE)


DIGITS = Embedded("digits", "1", DigitsNet, train_digits, "scikit-learn's digits (once, a few seconds)")
