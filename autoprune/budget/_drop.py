"""How much accuracy a network lost against the dense one, counted on images that had no part in choosing it.

A search for the smallest network within a drop tries many, and takes one that looked good on the images it was scored on: its
drop there flatters. So half of the search images score the policies, and the other half decides, once. There the loss must be
less than what is allowed with 95 % confidence, by the score test for a difference of paired proportions (Tango, "Equivalence
test and confidence interval for the difference in proportions for the paired-sample design", Statistics in Medicine 1998).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from autoprune.support.answers import ByImage

if TYPE_CHECKING:  # budgets, which use this, are read without loading torch
    from torch import Tensor

CONFIDENCE = 0.95
"""How sure it must be that a network lost no more than allowed."""
QUANTILE = 1.6448536269514722
"""Quantile of the normal distribution for it, one-sided."""


@dataclass(frozen=True)
class Drop:
    """What a network lost, image by image.

    Attributes:
        worse: Images that only the dense network got right.
        better: Images that only the small one got right.
        images: All images.
    """

    worse: int
    better: int
    images: int

    @property
    def value(self) -> float:
        """The accuracy lost, in [-1, 1]."""
        return (self.worse - self.better) / max(self.images, 1)

    def confirms(self, allowed: float) -> bool:
        """Whether the loss is at most ``allowed`` (in [0, 1)) with 95 % confidence."""
        return _statistic(self, allowed) <= -QUANTILE

    @property
    def most(self) -> float:
        """The upper limit of the loss with 95 % confidence, in [-1, 1]."""
        low, high = self.value, 1.0 - 1e-9
        if _statistic(self, high) > -QUANTILE:
            return 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if _statistic(self, middle) <= -QUANTILE else (middle, high)
        return high

    def to_dict(self) -> dict[str, int]:
        """Return the counts as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, int]) -> Drop:
        """Return what ``to_dict`` wrote.

        Raises:
            TypeError: for other keys.
            ValueError: for counts that no images have.
        """
        found = cls(**values)
        counts = (found.worse, found.better, found.images)
        if not all(type(count) is int and count >= 0 for count in counts) or found.worse + found.better > found.images:
            raise ValueError(f"is of {counts!r:.80} images")
        return found


@dataclass(frozen=True)
class MeanDrop:
    """What a network lost of a metric that says more of an image than right or wrong.

    Attributes:
        value: What was lost, in the metric's unit; negative where it gained.
        error: Its standard error, paired image by image.
        images: All images.
    """

    value: float
    error: float
    images: int

    def confirms(self, allowed: float) -> bool:
        """Whether the loss is at most ``allowed`` with 95 % confidence, taken to be normally distributed."""
        return self.most <= allowed

    @property
    def most(self) -> float:
        """The upper limit of the loss with 95 % confidence."""
        return self.value + QUANTILE * self.error

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MeanDrop:
        """Return what ``to_dict`` wrote.

        Raises:
            TypeError: for other keys.
            ValueError: for what is no loss.
        """
        found = cls(**values)
        numbers = (found.value, found.error)
        if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers) or found.error < 0:
            raise ValueError(f"is {numbers!r:.80}")
        if type(found.images) is not int or found.images < 1:
            raise ValueError(f"is of {found.images!r:.80} images")
        return found


AnyDrop: TypeAlias = Drop | MeanDrop


def drop_between(dense: ByImage, small: ByImage, *, maximize: bool = True) -> AnyDrop:
    """Return what a small network lost, given which images either got right or their numbers, shapes (N,).

    Args:
        dense: The dense network's.
        small: The small one's.
        maximize: Whether larger numbers are better.
    """
    lost = (dense.astype(np.float64) - small.astype(np.float64)) * (1.0 if maximize else -1.0)
    if dense.dtype == np.bool_ and small.dtype == np.bool_:
        return Drop(int(np.sum(lost > 0)), int(np.sum(lost < 0)), len(dense))
    error = float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else 0.0
    return MeanDrop(float(lost.mean()), error, len(lost))


def read_drop(values: Mapping[str, Any]) -> AnyDrop:
    """Return the drop that ``to_dict`` wrote (ValueError or TypeError for anything else)."""
    return Drop.from_dict(values) if "worse" in values else MeanDrop.from_dict(values)


def _statistic(drop: Drop, allowed: float) -> float:
    """Return Tango's score statistic against a loss of ``allowed``: negative where less was lost."""
    n, gap = drop.images, drop.worse - drop.better
    if n == 0:
        return 0.0
    a = 2 * n
    b = (2 * n - gap) * allowed - (drop.worse + drop.better)
    c = -drop.better * allowed * (1 - allowed)
    rare = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # share of images that only the small one gets right
    variance = n * (2 * rare + allowed * (1 - allowed))
    difference = gap - n * allowed
    if variance <= 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / math.sqrt(variance)


def paired_error(dense: Tensor, right: Tensor) -> float:
    """Return the standard error of the difference of two accuracies, from which images each got right; NaN for a single one."""
    difference = dense.double() - right.double()
    return float(difference.std() / math.sqrt(len(difference))) if len(difference) > 1 else math.nan
