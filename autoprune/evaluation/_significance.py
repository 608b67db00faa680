"""Whether accuracies differ by more than chance: of networks on the same images, of agents over seeds too.

A difference between two networks is uncertain because other images would have given another one. A difference between two
agents is also uncertain because other seeds would have. All seeds are measured on the same images, so more seeds make only
the second part smaller:

    V = V_images + V_seeds

- V_images: variance over images of the difference by image (averaged over seeds), over the number of images; as if one image
  more had told them apart each way, since often few do (Agresti and Min, 2005). Without answers by image it is that of
  independent measurements, p(1-p)/n for each, which is wider.
- V_seeds: variance over seeds of the differences of accuracy, over the number of seeds: what all agents' seeds say together
  (agents by seeds, without their interaction), or the geometric mean of that and of what the two agents' own say, where those
  say more: of few seeds one's own is hardly known, yet agents may differ in it.

What chance there is within one seed and one image is in both, so that V is rather too large. Degrees of freedom are
Satterthwaite's ("An approximate distribution of estimates of variance components", Biometrics 1946). The winner is picked on
the numbers that it is tested on, and there are many pairs: intervals and p-values hold for all pairs at once (Tukey's
studentized range, as in Games and Howell, 1976). What that comes to by simulation is in docs/significance.md
(``benchmarks/significance.py``).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.evaluation._metric import ACCURACY, Metric
from autoprune.support.answers import ByImage
from autoprune.support.packages import lazy

stats = lazy("scipy.stats", "A comparison of agents needs")

LEVEL = 0.05
"""Chance of any false difference among all pairs compared."""
_FREEDOMS = (
    1.0,
    1.25,
    1.5,
    1.75,
    2.0,
    2.5,
    3.0,
    3.5,
    4.0,
    5.0,
    6.0,
    8.0,
    10.0,
    12.0,
    15.0,
    20.0,
    30.0,
    50.0,
    100.0,
    300.0,
)
"""Degrees of freedom that critical values are computed for."""
_MANY = 1000.0
"""Degrees of freedom from which they count as infinite."""


@dataclass(frozen=True)
class Difference:
    """Two accuracies compared, among several.

    Attributes:
        value: First minus second, in [-1, 1].
        error: Its standard error; None if it is not known.
        freedom: Degrees of freedom of the error.
        several: How many are compared, all pairs of which the interval and the p-value hold for at once.
        paired: Whether it is by image; else images count as independent.
    """

    value: float
    error: float | None = None
    freedom: float = math.inf
    several: int = 2
    paired: bool = False

    @property
    def half_width(self) -> float | None:
        """Half the width of the 95 % interval; None if it is not known."""
        if self.error is None:
            return None
        return _critical(self.several, _floored(self.freedom, self.several)) * self.error / math.sqrt(2)

    @property
    def p(self) -> float | None:
        """The p-value; None if it is not known."""
        if self.error is None:
            return None
        if abs(self.value) < 1e-12:  # equal but for rounding
            return 1.0
        ratio = abs(self.value) * math.sqrt(2) / max(self.error, 1e-12)
        freedom = _floored(self.freedom, self.several)
        if self.several == 2:
            return float(2 * stats.t.sf(ratio / math.sqrt(2), freedom))
        return float(np.clip(stats.studentized_range.sf(ratio, self.several, freedom), 0.0, 1.0))

    @property
    def shown(self) -> bool:
        """Whether it is a difference beyond chance."""
        return self.half_width is not None and abs(self.value) > max(self.half_width, 1e-12)

    def text(self, metric: Metric = ACCURACY) -> str:
        """Return its size in the metric's unit (points of a share), with half the width of the interval."""
        return metric.with_error(abs(self.value), self.half_width) + metric.difference_unit

    @property
    def verdict(self) -> str:
        """What it shows: "p = 0.012: a difference", "p = 0.410: no difference shown"."""
        if self.p is None:
            return "no difference shown: its error is not known"
        chance = "p < 0.001" if self.p < 0.0005 else f"p = {self.p:.3f}"
        return f"{chance}: {'a difference' if self.shown else 'no difference shown'}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        given = {
            "mean": self.value,
            "error": self.error,
            "freedom": self.freedom if math.isfinite(self.freedom) else None,
        }
        told = {"half_width": self.half_width, "p": self.p, "shown": self.shown}
        return {**given, "several": self.several, "paired": self.paired, **told}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Difference:
        """Return the difference that `to_dict` wrote."""
        freedom = math.inf if values["freedom"] is None else values["freedom"]
        return cls(values["mean"], values["error"], freedom, values["several"], values["paired"])


def standard_error(accuracy: float, images: int | None) -> float | None:
    """Return the standard error sqrt(p (1 - p) / n) of an accuracy measured on ``images`` images."""
    return None if not images else math.sqrt(accuracy * (1 - accuracy) / images)


def error_of(value: float, by_image: ByImage | None, images: int | None, *, share: bool) -> float | None:
    """Return the standard error of a metric; None where it is not known.

    Args:
        value: The metric.
        by_image: Which images were right, or numbers whose mean is the metric; None where that is not known.
        images: Number of images.
        share: Whether it is the share of images that are right.
    """
    if by_image is not None and by_image.dtype != np.bool_:
        return float(by_image.std(ddof=1)) / math.sqrt(len(by_image)) if len(by_image) > 1 else None
    return standard_error(value, images) if share else None


class Networks:
    """Networks measured on the same images.

    Args:
        accuracies: One for each network, in [0, 1].
        right: For each network which images it got right, shape (N,); None where that is not known.
        images: Number of images; None if it is not known, then no difference is shown.
    """

    def __init__(self, accuracies: Sequence[float], right: Sequence[ByImage | None], images: int | None) -> None:
        self._accuracies = [float(value) for value in accuracies]
        self._right = [None if some is None else some.astype(np.float64) for some in right]
        self._images = images

    def difference(self, first: int, second: int) -> Difference:
        """Return the difference of two of them, by their places."""
        value = self._accuracies[first] - self._accuracies[second]
        variance, paired = _image_variance(
            self._right[first], self._right[second], self._accuracies[first], self._accuracies[second], self._images
        )
        error = None if variance is None else math.sqrt(variance)
        return Difference(value, error, several=len(self._accuracies), paired=paired)


class Agents:
    """Agents that had the same seeds, measured on the same images.

    Args:
        accuracies: Shape (agents, seeds), in [0, 1].
        right: For each agent which images its networks got right, shape (seeds, N); None where that is not known.
        images: Number of images; None if it is not known, then no difference is shown.
    """

    def __init__(self, accuracies: npt.ArrayLike, right: Sequence[ByImage | None], images: int | None) -> None:
        self._accuracies = np.asarray(accuracies, dtype=np.float64)  # (K, S)
        self._right = [None if some is None else some.mean(axis=0) for some in right]
        self._images = images
        agents, self.seeds = self._accuracies.shape
        table = self._accuracies
        rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
        self._freedom = max(1, (agents - 1) * (self.seeds - 1))
        self._together = 2 * float((rest**2).sum()) / self._freedom

    def difference(self, first: int, second: int) -> Difference:
        """Return the difference of two agents' means, by their places; of a single seed, nothing is said of chance."""
        gaps = self._accuracies[first] - self._accuracies[second]
        value = float(gaps.mean())
        means = [float(self._accuracies[place].mean()) for place in (first, second)]
        by_image, paired = _image_variance(self._right[first], self._right[second], means[0], means[1], self._images)
        if self.seeds < 2 or by_image is None:
            return Difference(value, several=len(self._accuracies), paired=paired)
        by_seed, own = self._together, float(gaps.var(ddof=1))
        if (
            own > by_seed
        ):  # agents may differ in it, but that of few seeds is hardly known: half way, on a scale of logarithms
            by_seed = math.sqrt(own * by_seed)
        by_seed /= self.seeds
        variance = by_image + by_seed
        many = math.inf if self._images is None else max(self._images - 1, 1)
        found = variance**2 / max(by_seed**2 / self._freedom + by_image**2 / many, 1e-300)
        return Difference(value, math.sqrt(variance), found, len(self._accuracies), paired)


def stacked(right: Sequence[ByImage | None]) -> npt.NDArray[Any] | None:
    """Return the answers of several seeds together, shape (seeds, N); None unless all are known, and to as many images."""
    known = [some for some in right if some is not None]
    return np.asarray(np.stack(known)) if len(known) == len(right) and len({len(some) for some in known}) == 1 else None


def _image_variance(
    first: npt.NDArray[np.float64] | None,
    second: npt.NDArray[np.float64] | None,
    accuracy: float,
    other: float,
    images: int | None,
) -> tuple[float | None, bool]:
    """Return the variance of a difference over images, None if not known, and whether it is by image."""
    if first is not None and second is not None and len(first) == len(second) and len(first) > 1:
        gaps = first - second
        unseen = 2 * float((gaps**2).max()) / len(gaps) ** 2  # one image more each way
        return float(gaps.var(ddof=1)) / len(gaps) + unseen, True
    if not images:
        return None, False
    shares = ((value * images + 1) / (images + 2) for value in (accuracy, other))  # none is known to be 0 or 1
    return sum(share * (1 - share) / images for share in shares), False


def _floored(freedom: float, several: int) -> float:
    """Return degrees of freedom rounded down to one of a few numbers, since critical values of many take long to compute."""
    if several == 2:
        return max(freedom, 1.0)
    return _FREEDOMS[max(bisect_right(_FREEDOMS, freedom) - 1, 0)] if freedom < _MANY else math.inf


@cache
def _critical(several: int, freedom: float) -> float:
    if several == 2:
        return float(stats.t.ppf(1 - LEVEL / 2, freedom)) * math.sqrt(2)
    return float(stats.studentized_range.ppf(1 - LEVEL, several, freedom))
