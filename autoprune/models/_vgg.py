"""VGG-16 for CIFAR: configuration D of Simonyan and Zisserman 2015, "Very Deep Convolutional Networks", with BatchNorm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class CifarVgg(nn.Module):
    """VGG-16 with BatchNorm for 3x32x32 images.

    Keys are those of torchvision's ``vgg16_bn`` (``features.N``, ``classifier.N``); five poolings leave one position, so the
    classifier's first layer takes 512 features, and its hidden layers have 512 units instead of 4,096.

    Args:
        num_classes: Number of outputs.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in _STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(512, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(512, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, num_classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


def vgg16(num_classes: int) -> nn.Module:
    """Return VGG-16 with BatchNorm for CIFAR."""
    return CifarVgg(num_classes)
