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


@dataclass(frozen=True)
class Term:
    """``scale * product of factors / over``, rounded up.

    Attributes:
        scale: A whole number.
        factors: Lengths of dimensions, or levels that it is in proportion to.
        over: What the product is divided by: the sizes of those levels' decisions.
    """

    scale: int
    factors: tuple[Affine, ...]
    over: int = 1

    def __call__(self, counts: Sequence[int]) -> int:
        return -(-self.scale * math.prod(factor(counts) for factor in self.factors) // self.over)

    def many(self, counts: IntArray) -> IntArray:
        """Return the values of many policies; counts of shape (N, decisions), result of shape (N,)."""
        product = np.full(len(counts), self.scale, dtype=np.int64)
        for factor in self.factors:
            product = product * (counts @ np.asarray(factor.slope, dtype=np.int64) + factor.offset)
        values: IntArray = -(-product // self.over)
        return values


@dataclass(frozen=True, eq=False)
class Elements:
    """A closed form of the counts: a quadratic form, and longer products (tensors cut along three dimensions, levels).

    Attributes:
        form: The quadratic form.
        rest: The products.
    """

    form: Quadratic
    rest: tuple[Term, ...] = ()

    def __call__(self, counts: Sequence[int]) -> int:
        return self.form(counts) + sum(term(counts) for term in self.rest)

    def many(self, counts: npt.ArrayLike) -> IntArray:
        """Return the values of many policies; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        values = self.form.many(k)
        for term in self.rest:
            values = values + term.many(k)
        return values
