"""Data sets that are two arrays: bytes of images, and labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoprune.errors import UsageError


@dataclass(frozen=True, eq=False)
class Arrays:
    """Training and held-out images as bytes, and where the held-out ones are cut in two.

    Attributes:
        train_images, held_images: Shape (N, C, H, W), uint8.
        train_labels, held_labels: Shape (N,).
        search: Number of held-out images, from the first, that make the search part; the rest is the report part.
        num_classes: Number of classes.
        mean, std: The data set's own, per channel, of images in [0, 1].
        source: What was read, for the description.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    held_images: npt.NDArray[np.uint8]
    held_labels: npt.NDArray[np.int64]
    search: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        for part, images, labels in (
            ("training", self.train_images, self.train_labels),
            ("held-out", self.held_images, self.held_labels),
        ):
            if len(images) != len(labels):
                raise UsageError(
                    f"The {part} part of {self.source} has {len(images)} images but {len(labels)} labels; get it anew."
                )
            if len(labels) and not (labels.min() >= 0 and labels.max() < self.num_classes):
                raise UsageError(
                    f"The {part} part of {self.source} has labels from {labels.min()} to {labels.max()}, "
                    f"but they must be 0 to {self.num_classes - 1}; get it anew."
                )
        if not len(self.train_labels) or not 0 < self.search < len(self.held_labels):
            raise UsageError(
                f"{self.source} has {len(self.train_labels)} training and {len(self.held_labels)} held-out images; "
                f"needed are at least 1 and {max(self.search, 1) + 1}."
            )
