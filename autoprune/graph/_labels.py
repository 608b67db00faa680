"""Label tensors: one integer per element of an activation, held as expanded views so that they stay small.

A dimension along which the labels do not change has stride 0 (or size 1); the *core* of a label tensor has size 1 there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NEUTRAL = 0
"""The label of elements that stand for no channel: numbers made in the code, which fit whatever they meet."""


def words(text: str) -> list[str]:
    """Return the words of a text: the tables of operators are written as such."""
    return text.split()


def neutral(shape: Sequence[int]) -> Tensor:
    """Return a label tensor of ``shape`` without channels."""
    return constant(NEUTRAL, shape)


def constant(label: int, shape: Sequence[int]) -> Tensor:
    """Return a label tensor of ``shape`` with one label everywhere."""
    return torch.tensor(label, dtype=torch.int64).expand(tuple(shape))


def along(first: int, shape: Sequence[int], dim: int) -> Tensor:
    """Return a label tensor of ``shape`` that counts up from ``first`` along ``dim`` and is constant elsewhere."""
    core = [1] * len(shape)
    core[dim] = shape[dim]
    return torch.arange(first, first + shape[dim]).view(core).expand(tuple(shape))


def varying(labels: Tensor) -> list[int]:
    """Return the dimensions along which the labels change."""
    return [dim for dim in range(labels.dim()) if labels.size(dim) > 1 and labels.stride(dim) != 0]


def core(labels: Tensor) -> Tensor:
    """Return the part of ``labels`` that the rest repeats: size 1 along every constant dimension."""
    for dim in range(labels.dim()):
        if labels.size(dim) > 1 and labels.stride(dim) == 0:
            labels = labels.narrow(dim, 0, 1)
    return labels


def compress(labels: Tensor) -> Tensor:
    """Return the same labels with stride 0 along every dimension that turns out to be constant."""
    small, shape = core(labels), labels.shape
    if labels.numel() == 0:
        return labels
    for dim in range(small.dim()):
        if small.size(dim) > 1:
            first = small.narrow(dim, 0, 1)
            if bool((small == first).all()):
                small = first
    return small.expand(shape)


def column(labels: Tensor, dim: int) -> Tensor:
    """Return the labels along ``dim`` as a matrix, shape (size of dim, k): k labels that belong to one index."""
    small = core(labels)
    if small.size(dim) != labels.size(dim):
        shape = list(small.shape)
        shape[dim] = labels.size(dim)
        small = small.expand(shape)
    return small.movedim(dim, 0).reshape(labels.size(dim), -1)


def reshape_blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]] | None:
    """Match the dimensions of two shapes of equal size into the smallest consecutive blocks of equal size.

    Returns:
        Pairs (dimensions before, dimensions after), or None for empty tensors.
    """
    if math.prod(before) == 0 or math.prod(before) != math.prod(after):
        return None
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left: list[int] = []
        right: list[int] = []
        a = b = 1
        while True:
            if a <= b and i < len(before) and (not left or a < b):
                a *= before[i]
                left.append(i)
                i += 1
            elif j < len(after) and (not right or b < a):
                b *= after[j]
                right.append(j)
                j += 1
            elif a == b:
                break
            elif i < len(before):
                a *= before[i]
                left.append(i)
                i += 1
            else:
                b *= after[j]
                right.append(j)
                j += 1
        blocks.append((left, right))
    return blocks
