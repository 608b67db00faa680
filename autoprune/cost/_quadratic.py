"""Integer quadratic forms: what multiply-adds and parameters are, as functions of the channel counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Affine:
    """``offset + slope . counts``: the length of one dimension of a tensor, or the number of a layer's channels.

    Attributes:
        slope: Positions that each channel of each decision owns, shape (decisions,).
        offset: Positions that no decision owns.
    """

    slope: tuple[int, ...]
    offset: int

    def __call__(self, counts: Sequence[int]) -> int:
        return self.offset + sum(a * int(k) for a, k in zip(self.slope, counts, strict=True))

    @property
    def is_constant(self) -> bool:
        """Whether no decision changes it."""
        return not any(self.slope)


class Quadratic:
    """``counts' Q counts + q counts + q0`` over int64, exact as long as its largest value is below 2**63.

    All coefficients are non-negative, so no intermediate result exceeds the final one, and the value never falls when a
    count rises.

    Args:
        size: Number of decisions.
    """

    def __init__(self, size: int) -> None:
        self.matrix: IntArray = np.zeros((size, size), dtype=np.int64)
        self.linear: IntArray = np.zeros(size, dtype=np.int64)
        self.constant = 0

    def add(self, scale: int, first: Affine, second: Affine) -> None:
        """Add ``scale * first * second``."""
        a = np.asarray(first.slope, dtype=np.int64)
        b = np.asarray(second.slope, dtype=np.int64)
        self.matrix += scale * np.outer(a, b)
        self.linear += scale * (first.offset * b + second.offset * a)
        self.constant += scale * first.offset * second.offset

    def __call__(self, counts: npt.ArrayLike) -> int:
        k = np.asarray(counts, dtype=np.int64)
        return int(k @ (self.matrix @ k + self.linear)) + self.constant

    def many(self, counts: npt.ArrayLike) -> IntArray:
        """Return the values of many policies; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        values: IntArray = (k * (k @ self.matrix.T + self.linear)).sum(axis=1) + self.constant
        return values


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements of tensors as a function of the counts: a quadratic form and, for tensors cut along three dimensions, products.

    Attributes:
        form: The quadratic form.
        rest: The products: (scale, factors).
    """

    form: Quadratic
    rest: tuple[tuple[int, tuple[Affine, ...]], ...] = ()

    def __call__(self, counts: Sequence[int]) -> int:
        return self.form(counts) + sum(scale * math.prod(f(counts) for f in factors) for scale, factors in self.rest)

    def many(self, counts: npt.ArrayLike) -> IntArray:
        """Return the values of many policies; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        values = self.form.many(k)
        for scale, factors in self.rest:
            product = np.full(len(k), scale, dtype=np.int64)
            for factor in factors:
                product = product * (k @ np.asarray(factor.slope, dtype=np.int64) + factor.offset)
            values = values + product
        return values
