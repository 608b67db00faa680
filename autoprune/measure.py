"""Accuracy and loss of a network on labelled images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass(frozen=True)
class Measured:
    """What a network does on some images.

    Attributes:
        accuracy: Top-1 accuracy in [0, 1].
        loss: Mean cross-entropy in nats.
        images: Number of images.
    """

    accuracy: float
    loss: float
    images: int

    @property
    def accuracy_se(self) -> float:
        """Standard error of the accuracy."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)


def measure(model: nn.Module, data: Dataset[Any], *, device: str = "cpu", batch_size: int = 256) -> Measured:
    """Run a network over labelled images. The caller sees to eval mode.

    Args:
        model: Takes images (B, C, H, W), returns logits (B, classes); on ``device``.
        data: Items are (image (C, H, W), label).
        device: Torch device.
        batch_size: Images at a time.
    """
    correct, loss, images = 0, 0.0, 0
    with torch.inference_mode():
        for batch, labels in DataLoader(data, batch_size=batch_size):
            logits = model(batch.to(device)).float()
            target = labels.to(logits.device)
            correct += int((logits.argmax(1) == target).sum())
            loss += float(F.cross_entropy(logits, target, reduction="sum"))
            images += len(labels)
    return Measured(correct / images, loss / images, images)
