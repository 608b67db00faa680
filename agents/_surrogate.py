"""A Gaussian process over kept counts: what policies cost in quality, before and while they are scored.

What is to become small, 0 for the dense network (how far the outputs diverge from its own, or the logarithm of the loss over
its loss), is a sum over groups, plus what the sum misses:

    y(k) = Σ_g w_g e_g(k_g) + r(k) + noise

``e_g(k)`` is the error that group g's consumers make when k of its channels stay and they are refitted: a curve that is
known before anything is scored (``Problem.errors``). How much such an error matters is the group's weight ``w_g``, normal
around what is known of it (``Problem.sensitivities``), else a curve over depth; ``r`` is a smooth function of all keep ratios.
Everything is conditioned on the scores in closed form (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006,
section 2.7), the few scales are those of the largest marginal likelihood on a grid (section 5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from autoprune.errors import AutopruneError
from autoprune.support.packages import lazy

linalg = lazy("scipy.linalg", "The agent's surrogate needs")
optimize = lazy("scipy.optimize", "The agent's surrogate needs")

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DEPTH_WEIGHT = 1.0
"""Weight of the last group over the first, as a logarithm, where nothing better is known."""
DEPTH_SLOPES = (-2.0, -1.0, 0.0, 1.0)
"""What is added to that logarithm: the grid that the likeliest is taken of."""
SMALLEST = 0.02
"""Least prior weight of a group, as a share of the largest."""
SPREAD = 0.45
"""Prior standard deviation of a weight, as a share of its mean."""
RESIDUALS = (0.05, 0.15)
"""Standard deviations of r, in the unit of a weight: the grid that the likeliest is taken of."""
NOISE = 0.02
"""Standard deviation of a score's noise, in the same unit."""
LENGTH_SCALE = 0.35
"""Length scale of r, in keep ratio, root mean square over the groups."""


class Surrogate:
    """A model of what every policy costs in quality, given the scores of some.

    Args:
        curves: For each group the error of every count from 0 to its size, shape (size + 1,), 0 for the whole group.
        sizes: Channels of each group.
        weights: Prior means of the weights, up to a common factor, shape (groups,); None for a curve over depth.
    """

    def __init__(self, curves: Sequence[FloatArray], sizes: Sequence[int], weights: FloatArray | None = None) -> None:
        self._curves = [np.asarray(curve, dtype=np.float64) for curve in curves]
        self._sizes = np.asarray(sizes, dtype=np.float64)
        self._depth = np.linspace(0.0, 1.0, len(sizes)) if len(sizes) > 1 else np.array([0.5])
        self._told: FloatArray = np.zeros((0, len(sizes)))
        if weights is None:
            self._prior: FloatArray = np.exp(DEPTH_WEIGHT * (self._depth - 0.5))
        else:
            self._prior = np.maximum(weights, SMALLEST * weights.max()) / max(float(weights.mean()), 1e-12)
        self._set_prior(0.0, RESIDUALS[0], 1.0)
        self.weights = self._profile.copy()
        """How much a unit of error matters in each group, at least 0, shape (groups,)."""

    def errors(self, counts: npt.ArrayLike) -> FloatArray:
        """Return the groups' errors of many policies; counts of shape (N, groups), result the same."""
        k = np.asarray(counts, dtype=np.int64)
        return np.stack([curve[k[:, group]] for group, curve in enumerate(self._curves)], axis=1)

    def sloped(self, slope: float) -> FloatArray:
        """Return the weights' prior means times exp(-slope/2) at the first group to exp(slope/2) at the last, shape (groups,)."""
        return self._prior * np.exp(slope * (self._depth - 0.5))

    def _set_prior(self, slope: float, residual: float, scale: float) -> None:
        self._profile = self.sloped(slope)
        self._spread: FloatArray = (SPREAD * self._profile) ** 2
        self._residual = residual
        self._scale = scale

    def _smooth(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return the covariance of r between policies (as counts), shape (left, right)."""
        a, b = left / self._sizes, right / self._sizes
        square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        found: FloatArray = self._residual**2 * np.exp(
            -0.5 * np.maximum(square, 0.0) / (len(self._sizes) * LENGTH_SCALE**2)
        )
        return found

    def fit(self, counts: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Condition on scores.

        Args:
            counts: The policies, shape (N, groups).
            values: What is to become small, of each, shape (N,).

        Raises:
            AutopruneError: if the scores or the groups' errors are not finite.
        """
        self._told = np.asarray(counts, dtype=np.float64)
        y = np.asarray(values, dtype=np.float64)
        x = self.errors(counts)
        if not (np.isfinite(y).all() and np.isfinite(x).all()):
            raise _cannot_learn("not finite")
        found = []
        for slope, residual in product(DEPTH_SLOPES, RESIDUALS):
            self._set_prior(slope, residual, 1.0)
            mean = x @ self._profile
            factor = _factor(self._covariance(x))
            white_y, white_mean = (linalg.solve_triangular(factor, v, lower=True) for v in (y, mean))
            a, b, n = float(white_y @ white_y), float(white_y @ white_mean), len(y)
            # All scales in units of the weights' own: the one that is most likely is the root of a quadratic.
            inverse = (b + np.sqrt(b * b + 4 * max(a, 1e-12) * n)) / (2 * max(a, 1e-12))
            misfit = white_y * inverse - white_mean
            likely = -0.5 * misfit @ misfit - np.log(np.diag(factor)).sum() + n * np.log(inverse)
            found.append((likely - 0.5 * slope**2, (slope, residual, 1.0 / inverse)))
        self._set_prior(*max(found)[1])
        self._factor = _factor(self._covariance(x))
        self._x, y = x, y / self._scale
        # Weights at least 0: more channels never hurt.
        rest = _factor(self._smooth(self._told, self._told) + NOISE**2 * np.eye(len(y)))
        prior = np.diag(1.0 / np.sqrt(self._spread))
        rows = np.concatenate([linalg.solve_triangular(rest, x, lower=True), prior])
        right = np.concatenate([linalg.solve_triangular(rest, y, lower=True), prior @ self._profile])
        weights, _ = optimize.nnls(rows, right)
        self._left_over = linalg.cho_solve((rest, True), y - x @ weights)
        self.weights = self._scale * weights

    def _covariance(self, x: FloatArray) -> FloatArray:
        noise = NOISE**2 * np.eye(len(x))
        return (x * self._spread) @ x.T + self._smooth(self._told, self._told) + noise

    def predict(self, counts: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of what is to become small; counts of shape (N, groups), results (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        x = self.errors(k)
        mean = x @ self.weights
        own = (x**2) @ self._spread + self._residual**2
        if len(self._told):
            smooth = self._smooth(np.asarray(k, dtype=np.float64), self._told)
            mean += self._scale * (smooth @ self._left_over)
            shared = (x * self._spread) @ self._x.T + smooth
            half = linalg.solve_triangular(self._factor, shared.T, lower=True)
            own = own - (half**2).sum(axis=0)
        return mean, self._scale * np.sqrt(np.maximum(own, 0.0))


def _factor(covariance: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor of a covariance.

    Raises:
        AutopruneError: if it has none.
    """
    try:
        factor: FloatArray = linalg.cholesky(covariance, lower=True)
    except np.linalg.LinAlgError as error:
        raise _cannot_learn(str(error)) from error
    return factor


def _cannot_learn(why: str) -> AutopruneError:
    return AutopruneError(
        f"The auto agent cannot learn from the scores so far ({why}): a score, or a group's error over the calibration "
        "images, is NaN, infinite or out of all proportion; use another --agent."
    )
