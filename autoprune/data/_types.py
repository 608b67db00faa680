"""The three disjoint parts of a data set that a search works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

CALIBRATION = 5000
"""Most images in the calibration part, drawn from the training images with a fixed seed."""
SEARCH = 5000
"""Most images in the search part where a set of held-out images is halved."""
SEED = 0
"""Seed of every split and draw in this package."""


@dataclass(frozen=True, eq=False)
class Data:
    """Images in three disjoint parts. Items are (float tensor (C, H, W), normalised; int label).

    Attributes:
        name: What the user asked for.
        calibration: Training images for statistics.
        search: Held-out images that policies are scored on.
        report: Held-out images that are never scored during a search.
        train: All training images, or None.
        num_classes: Number of classes; 0 where no labels are read.
        input_shape: Shape (C, H, W) of one image.
        mean, std: What was subtracted and divided by, per channel, of images in [0, 1]; empty if the data came ready.
        fingerprint: SHA-256 of shapes and of a sample of images and labels.
        description: One line for the user: which images each part has.
        prepared: What is done to each image, in words; empty where that is not ours.
        labelled: Whether there are labels and they are read.
    """

    name: str
    calibration: Dataset[Any]
    search: Dataset[Any]
    report: Dataset[Any]
    train: Dataset[Any] | None
    num_classes: int
    input_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    description: str
    prepared: str = ""
    labelled: bool = True


class ImageArrays(Dataset[tuple[Tensor, int]]):
    """Images kept as bytes and made floats when asked for.

    Args:
        images: Shape (N, C, H, W), uint8.
        labels: Shape (N,).
        mean: Per channel, of images in [0, 1].
        std: Per channel, of images in [0, 1].
        transform: Takes one image's uint8 tensor (C, H, W) instead of the normalisation.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int64],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        transform: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform
        self._mean = torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[index])
        label = int(self.labels[index])
        return (self.normalise(image) if self.transform is None else self.transform(image)), label

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 images, shape (..., C, H, W), as the network wants them."""
        return (images.float() / 255 - self._mean) / self._std

    def take(self, indices: npt.NDArray[np.int64] | slice) -> Dataset[Any]:
        """Return some of the images: floats in memory (a ``TensorDataset``), or as lazy as this with a transform."""
        images, labels = self.images[indices], self.labels[indices]
        if self.transform is not None:
            return ImageArrays(
                images,
                labels,
                mean=self._mean.flatten().tolist(),
                std=self._std.flatten().tolist(),
                transform=self.transform,
            )
        return TensorDataset(self.normalise(torch.from_numpy(images)), torch.from_numpy(labels))


def draw(count: int, size: int) -> npt.NDArray[np.int64]:
    """Return ``min(count, size)`` different numbers below ``size``, ascending, the same on every call."""
    chosen = np.random.default_rng(SEED).permutation(size)[:count]
    return np.sort(chosen).astype(np.int64)


def halves(size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split ``range(size)`` at random, the same on every call: half of it (at most ``SEARCH``) and the rest, each ascending."""
    first = draw(min(size // 2, SEARCH), size)
    return first, np.setdiff1d(np.arange(size), first).astype(np.int64)
