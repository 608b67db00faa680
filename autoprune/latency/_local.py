"""What a regression leaves: corrections learned from the networks measured near by.

A Gaussian process over the shares of channels kept (Rasmussen and Williams, *Gaussian Processes for Machine Learning*,
2006, eq. 2.25): far from everything measured the correction is 0, at a measured network it is nearly what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
REACHES = (0.1, 0.2, 0.35, 0.6)
"""Root mean square differences of the shares kept, over which two networks' corrections are alike."""
NOISES = (0.1, 0.3, 1.0)
"""Variance of the measurements relative to that of the corrections."""


@dataclass(frozen=True, eq=False)
class LocalCorrection:
    """Corrections around measured networks.

    Attributes:
        shares: Shares of channels that the measured networks keep, shape (M, D).
        weights: What each adds, shape (M,).
        reach: See `REACHES`.
    """

    shares: FloatArray
    weights: FloatArray
    reach: float

    @classmethod
    def fit(cls, shares: FloatArray, left: FloatArray, reach: float, noise: float) -> LocalCorrection:
        """Learn from what is left, shape (M,), at the measured networks."""
        inner = alike(shares, shares, reach) + noise * np.eye(len(shares))
        weights: FloatArray = np.linalg.solve(inner, left).astype(np.float64)
        return cls(shares, weights, reach)

    def __call__(self, shares: FloatArray) -> FloatArray:
        """Return the corrections for networks; shares of shape (N, D), result of shape (N,)."""
        found: FloatArray = alike(shares, self.shares, self.reach) @ self.weights
        return found


def left_out(shares: FloatArray, left: Sequence[FloatArray], reach: float, noise: float) -> FloatArray:
    """Return for each measured network the correction learned from the others, shape (M,).

    Args:
        shares: Shares of channels kept, shape (M, D).
        left: For each network what is left at all of them by a regression without it.
        reach: See `REACHES`.
        noise: See `NOISES`.
    """
    kernel = alike(shares, shares, reach)
    found = np.zeros(len(shares))
    for number, values in enumerate(left):
        others = np.arange(len(shares)) != number
        inner = kernel[np.ix_(others, others)] + noise * np.eye(len(shares) - 1)
        found[number] = kernel[number, others] @ np.linalg.solve(inner, values[others])
    return found


def alike(a: FloatArray, b: FloatArray, reach: float) -> FloatArray:
    """Return how alike networks' corrections are, 0 to 1, shape (N, M); shares of shapes (N, D) and (M, D)."""
    squares = (a**2).mean(axis=1)[:, None] + (b**2).mean(axis=1)[None, :] - 2 * a @ b.T / a.shape[1]
    found: FloatArray = np.exp(-squares.clip(min=0.0) / (2 * reach**2))
    return found
