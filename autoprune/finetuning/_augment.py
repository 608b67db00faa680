"""Random crops and mirrored images, drawn for a whole epoch at once and applied to a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_MARGIN = 8  # an image is padded by this part of its side: CIFAR by 4, digits by 1


@dataclass(frozen=True, eq=False)
class Draws:
    """One epoch's random numbers.

    Attributes:
        order: The images, in the order of training. Shape (N,).
        offset: Row and column of the crop in the padded image, by image. Shape (N, 2).
        flip: Whether the image is mirrored. Shape (N,).
    """

    order: Tensor
    offset: Tensor
    flip: Tensor


def draw(size: int, side: tuple[int, int], *, kind: str, seed: int, epoch: int) -> Draws:
    """Return the random numbers of one epoch, a function of ``seed`` and ``epoch`` alone.

    Args:
        size: Number of images.
        side: Height and width of an image.
        kind: "crop-flip", "shift" or "none".
        seed: The run's seed.
        epoch: Number of the epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(size)
    margins = np.array([margin(length) for length in side])
    offset = rng.integers(0, 2 * margins + 1, size=(size, 2)) if kind != "none" else np.tile(margins, (size, 1))
    flip = rng.random(size) < 0.5 if kind == "crop-flip" else np.zeros(size, dtype=bool)
    return Draws(torch.from_numpy(order), torch.from_numpy(offset), torch.from_numpy(flip))


def margin(length: int) -> int:
    """Return how far an image of this side is padded and moved."""
    return max(1, length // _MARGIN)


def pad(images: Tensor, *, value: float) -> Tensor:
    """Pad images (N, C, H, W) by their margins on every side."""
    rows, columns = (margin(length) for length in images.shape[-2:])
    return F.pad(images, (columns, columns, rows, rows), value=value)


def crop(padded: Tensor, side: tuple[int, int], offset: Tensor, flip: Tensor) -> Tensor:
    """Cut a window out of every padded image, and mirror it where asked.

    Args:
        padded: Shape (B, C, H + 2 m, W + 2 n).
        side: Height and width of a window.
        offset: Its first row and column, shape (B, 2).
        flip: Whether it is mirrored, shape (B,).

    Returns:
        Shape (B, C, H, W).
    """
    windows = padded.unfold(2, side[0], 1).unfold(3, side[1], 1)  # (B, C, 2 m + 1, 2 n + 1, H, W), a view
    crops = windows[torch.arange(len(padded)), :, offset[:, 0], offset[:, 1]]
    return torch.where(flip.view(-1, 1, 1, 1), crops.flip(-1), crops)
