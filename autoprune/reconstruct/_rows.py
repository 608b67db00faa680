"""Sampled output positions of a layer, and the rows of its least-squares problem there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.graph._types import Layer


@dataclass(frozen=True, eq=False)
class Rows:
    """Which outputs of one layer are looked at.

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
        """Return the inputs that produce those outputs, shape (P, C * kernel), channel-major like the weight.

        Args:
            value: The layer's input, shape (N, C, *spatial) or (N, *extra, C).
        """
        if self.layer.op == "linear":
            return value[self.index]
        layer, (batch, *spatial) = self.layer, self.index
        if math.prod(layer.kernel) == 1 and not any(layer.padding):
            places: list[Any] = [place * stride for place, stride in zip(spatial, layer.stride, strict=True)]
            return value[(batch, slice(None), *places)]
        if any(layer.padding):
            value = F.pad(value, [side for pad in reversed(layer.padding) for side in (pad, pad)])
        channels = value.shape[1]
        if not value.is_contiguous():
            value = value.contiguous()
        # One flat gather: offset of every window's corner, plus the offsets within a window.
        strides = value.stride()
        corner = batch * strides[0]
        for place, stride, step in zip(spatial, layer.stride, strides[2:], strict=True):
            corner = corner + place * (stride * step)
        offset = torch.arange(channels, device=value.device)[:, None] * strides[1]  # (C, 1)
        window = torch.zeros(1, dtype=torch.long, device=value.device)
        for size, dilation, step in zip(layer.kernel, layer.dilation, strides[2:], strict=True):
            window = (window[:, None] + torch.arange(size, device=value.device) * (dilation * step)).flatten()
        offset = (offset + window).flatten()  # (C * kernel,)
        return value.flatten()[corner[:, None] + offset]


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
