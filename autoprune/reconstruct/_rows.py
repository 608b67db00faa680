"""Sampled output positions of a layer, and the rows of its least-squares problem there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.groups import Layer


@dataclass(frozen=True, eq=False)
class Rows:
    """Which outputs of one layer are sampled.

    Attributes:
        layer: The layer.
        index: One index tensor per (batch, *spatial) dimension of the output, each of shape (P,).
    """

    layer: Layer
    index: tuple[Tensor, ...]

    def outputs(self, value: Tensor) -> Tensor:
        """Return the sampled outputs, shape (P, C), of a value of shape (N, C, *spatial) or (N, *extra, C)."""
        if self.layer.op == "linear":
            return value[self.index]
        index: list[Any] = list(self.index)
        return value[(*index[:1], slice(None), *index[1:])]

    def inputs(self, value: Tensor) -> Tensor:
        """Return the inputs that produce those outputs, shape (P, kernel * C): kernel tap by kernel tap, all channels of each.

        Args:
            value: The layer's input, shape (N, C, *spatial) or (N, *extra, C).
        """
        if self.layer.op == "linear":
            return value[self.index]
        layer = self.layer
        if any(layer.padding):
            value = F.pad(value, [side for pad in reversed(layer.padding) for side in (pad, pad)])
        strides = value.stride()
        places = [self.index[0], *(place * step for place, step in zip(self.index[1:], layer.stride, strict=True))]
        reach = [step * (size - 1) + 1 for size, step in zip(layer.kernel, layer.dilation, strict=True)]
        corners = [size - span + 1 for size, span in zip(value.shape[2:], reach, strict=True)]
        # A view of all windows, (N, *corner, *kernel, C); channels last in memory, a window is a few long runs.
        windows = value.as_strided(
            (value.shape[0], *corners, *layer.kernel, value.shape[1]),
            (
                strides[0],
                *strides[2:],
                *(stride * step for stride, step in zip(strides[2:], layer.dilation, strict=True)),
                strides[1],
            ),
        )
        return windows[tuple(places)].flatten(1)


def sample_rows(layer: Layer, images: int, *, limit: int, generator: torch.Generator, device: torch.device) -> Rows:
    """Choose at most ``limit`` output positions, the same number in every image, without repetition in an image.

    Args:
        layer: The layer.
        images: Number of images in the batch the positions are for.
        limit: Most positions in all.
        generator: Source of randomness (CPU).
        device: Where the indices are wanted.
    """
    spatial = layer.out_shape[1:-1] if layer.op == "linear" else layer.out_shape[2:]
    total = math.prod(spatial)
    each = max(1, min(total, limit // images))
    if each == total:
        flat = torch.arange(total).repeat(images)
    else:
        flat = torch.rand(images, total, generator=generator).topk(each, dim=1).indices.flatten()
    batch = torch.arange(images).repeat_interleave(each)
    places: list[Tensor] = []
    for size in reversed(spatial):
        places.insert(0, flat % size)
        flat = flat // size
    return Rows(layer, tuple(index.to(device) for index in (batch, *places)))
