"""The CIFAR ResNets of He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2, and their plain twins."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """The shortcut without parameters ("option A"): every second row and column, zeros for the channels that are new.

    The zeros are buffers (outside the state dict) rather than numbers in the code, so that the channels they are added to
    can be pruned with them.

    Args:
        new_channels: Number of zero channels, half of them in front, half behind.
    """

    front: Tensor
    behind: Tensor

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        front = new_channels // 2
        self.register_buffer("front", torch.zeros(1, front, 1, 1), persistent=False)
        self.register_buffer("behind", torch.zeros(1, new_channels - front, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C + new_channels, ceil(H / 2), ceil(W / 2))."""
        x = x[:, :, ::2, ::2]
        batch, _, height, width = x.shape
        front, behind = (zeros.expand(batch, -1, height, width) for zeros in (self.front, self.behind))
        return torch.cat([front, x, behind], dim=1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, and the input added before the last ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
        residual: False leaves the shortcut out (a plain network).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if residual:
            same = stride == 1 and in_channels == out_channels
            self.shortcut = nn.Identity() if same else PaddedShortcut(out_channels - in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        out: Tensor = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return F.relu(out)


class CifarResNet(nn.Module):
    """A residual (or plain) network for 3x32x32 images: a 3x3 stem and three stages of 16, 32 and 64 channels.

    State-dict keys are those of the published weights (``pytorch_resnet_cifar10``):
    ``conv1 bn1 layer{1,2,3}.{i}.{conv1,bn1,conv2,bn2} linear``.

    Args:
        blocks: Basic blocks per stage, n in the paper's depth 6n + 2.
        num_classes: Number of outputs.
        residual: False leaves the shortcuts out (the paper's plain networks).
    """

    def __init__(self, blocks: int, num_classes: int = 10, *, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1, residual=residual)
        self.layer2 = _stage(16, 32, blocks, stride=2, residual=residual)
        self.layer3 = _stage(32, 64, blocks, stride=2, residual=residual)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)  # (B, 64)
        logits: Tensor = self.linear(x)
        return logits


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int, residual: bool) -> nn.Sequential:
    """Return ``blocks`` basic blocks, the first of which changes the width and the resolution."""
    first = BasicBlock(in_channels, channels, stride, residual=residual)
    rest = (BasicBlock(channels, channels, 1, residual=residual) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)


def resnet(depth: int) -> Callable[[int], nn.Module]:
    """Return the constructor ``num_classes -> CifarResNet`` of the given depth, 6n + 2."""
    return lambda num_classes: CifarResNet((depth - 2) // 6, num_classes)


def plain20(num_classes: int) -> nn.Module:
    """Return ResNet-20 without its shortcuts (plain-20)."""
    return CifarResNet(3, num_classes, residual=False)
