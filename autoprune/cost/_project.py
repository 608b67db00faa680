"""The two-sided projection: any keep ratios in, channel counts that use the budget and never exceed it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.budget import Mode
from autoprune.cost._costs import Cost
from autoprune.cost._quadratic import IntArray
from autoprune.errors import UsageError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_NEVER = np.iinfo(np.int64).max
_BISECTIONS = 40


class Projector:
    """Makes policies meet a budget: one cost with its limit, or several, all of which are met.

    Departs from He et al. 2018 (AMC, algorithm 1), whose bound is one-sided: there a policy may end far below the
    budget. Here what is asked is warped until it meets the budget from below, and the slack that rounding leaves is
    filled.

    Args:
        limits: Costs, each with the most that a policy may have of it. Whatever the costs are, no limit is exceeded; those
            that never fall when a count rises are also used as far as any policy of the same direction can.
        levels: For each decision the allowed counts, ascending (see `allowed_counts`).
        mode: "exact": use all of the budget, so that no group can go up one level within it. "at-most": policies that
            ask for less stay as they are.
        rising: Whether no cost falls when a count rises: then what does not fit is not asked for again.
        sizes: Units of each decision; None where the last level is all of them.

    Attributes:
        levels: The allowed counts.
        mode: The mode.
        smallest: The smallest policy that the levels allow.
        largest: The largest policy that the levels allow.
    """

    def __init__(
        self,
        limits: Sequence[tuple[Cost, float]],
        levels: Sequence[tuple[int, ...]],
        mode: Mode = "exact",
        *,
        rising: bool = False,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.mode = mode
        self._rising = rising
        self.levels = tuple(tuple(int(level) for level in allowed) for allowed in levels)
        self._limits = tuple(limits)
        self.smallest = tuple(allowed[0] for allowed in self.levels)
        self.largest = tuple(allowed[-1] for allowed in self.levels)
        self._sizes: FloatArray = np.asarray(self.largest if sizes is None else sizes, dtype=np.float64)
        longest = max((len(allowed) for allowed in self.levels), default=1)
        self._table: IntArray = np.full((len(self.levels), longest + 1), _NEVER, dtype=np.int64)
        for row, allowed in zip(self._table, self.levels, strict=True):
            row[: len(allowed)] = allowed
        # Nearest level, the lower of two equally near: the number of midpoints that lie below.
        self._middles: FloatArray = np.full((len(self.levels), longest - 1), np.inf)
        for middles, allowed in zip(self._middles, self.levels, strict=True):
            middles[: len(allowed) - 1] = (np.asarray(allowed[1:]) + np.asarray(allowed[:-1])) / 2
        self._rows = np.arange(len(self.levels))

    def usage(self, counts: Sequence[int]) -> float:
        """Return how much of the budget a policy uses: the largest share of a limit. At most 1 fits."""
        return max((float(cost(counts)) / limit for cost, limit in self._limits), default=0.0)

    def usage_many(self, counts: npt.ArrayLike) -> FloatArray:
        """Return the usage of many policies; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        shares = [np.asarray(cost.many(k), dtype=np.float64) / limit for cost, limit in self._limits]
        result: FloatArray = np.max(shares, axis=0) if shares else np.zeros(len(k))
        return result

    def fits(self, counts: Sequence[int]) -> bool:
        """Whether a policy exceeds no limit."""
        return all(cost(counts) <= limit for cost, limit in self._limits)

    def fits_many(self, counts: npt.ArrayLike) -> BoolArray:
        """Return which of many policies exceed no limit; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        result: BoolArray = np.ones(len(k), dtype=np.bool_)
        for cost, limit in self._limits:
            left = np.flatnonzero(result)
            result[left] = np.asarray(cost.many(k[left])) <= limit
        return result

    def _nearest(self, ratios: FloatArray) -> IntArray:
        """Return for each ratio the number of the level nearest to it."""
        wanted = ratios * self._sizes
        result: IntArray = (self._middles < wanted[:, None]).sum(axis=1)
        return result

    def _reach(self, base: FloatArray, direction: FloatArray) -> FloatArray:
        """Return the last point from ``base`` along ``direction`` that fits (``base`` where none is found to)."""

        def fits(step: float) -> bool:
            return self.fits(self._table[self._rows, self._nearest(base + step * direction)].tolist())

        if fits(1.0):
            return base + direction
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return base + low * direction

    def _warp(self, asked: FloatArray) -> FloatArray:
        """Return the largest warp of ``asked`` that fits.

        Over budget all ratios shrink in proportion; under it all gaps to 1 do. Both keep the order of the ratios and
        leave equal ratios equal.
        """
        if not self.fits(self._table[self._rows, self._nearest(asked)].tolist()):
            return self._reach(np.zeros_like(asked), asked)
        return asked if self.mode == "at-most" else self._reach(asked, 1.0 - asked)

    def _raised(self, counts: IntArray, places: IntArray, open_: npt.NDArray[Any]) -> IntArray:
        """Return the policies with one of the ``open_`` groups a level up, shape (len(open_), decisions)."""
        candidates = np.repeat(counts[None], len(open_), axis=0)
        candidates[np.arange(len(open_)), open_] = self._table[open_, places[open_] + 1]
        return candidates

    def _fill(self, places: IntArray, target: FloatArray, ceiling: IntArray) -> IntArray:
        """Raise counts a level at a time as long as one fits, first the one that ends least above its target."""
        counts: IntArray = self._table[self._rows, places]
        closed: set[int] = set()
        while True:
            above = self._table[self._rows, places + 1]
            open_ = np.flatnonzero((above != _NEVER) & (places < ceiling))
            excess = above[open_] / self._sizes[open_] - target[open_]
            open_ = open_[np.argsort(excess, kind="stable")]
            chosen = None  # one by one: a cost of one's own may take long
            for group, policy in zip(open_.tolist(), self._raised(counts, places, open_).tolist(), strict=True):
                if group in closed:
                    continue
                if self.fits(policy):
                    chosen = group
                    break
                if self._rising:
                    closed.add(group)
            if chosen is None:
                return counts
            places[chosen] += 1
            counts[chosen] = above[chosen]

    def project(self, ratios: Sequence[float]) -> tuple[int, ...]:
        """Return the allowed counts nearest to the keep ratios asked for that meet the budget.

        Args:
            ratios: One keep ratio in [0, 1] per decision; those outside are clipped.

        Raises:
            UsageError: if a ratio is NaN, or even the smallest policy exceeds the budget.
        """
        asked = np.asarray(ratios, dtype=np.float64)
        if asked.shape != self._sizes.shape or np.isnan(asked).any():
            raise UsageError(f"Expected {self._sizes.size} keep ratios in [0, 1], got {asked.tolist()}.")
        if not self.fits(self.smallest):
            raise UsageError(
                f"The budget cannot be met: the smallest policy allowed needs {self.usage(self.smallest):.4g} times as much."
            )
        asked = asked.clip(0.0, 1.0)
        target = self._warp(asked)
        ceiling = self._nearest(asked) if self.mode == "at-most" else np.full(self._rows.shape, self._table.shape[1])
        return tuple(self._fill(self._nearest(target), target, ceiling).tolist())

    def fill(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Return the counts with the slack filled (mode "exact"); they must fit the budget. At-most: unchanged.

        Raises:
            UsageError: if a count is not allowed or the counts exceed the budget.
        """
        places = self._places(counts)
        if not self.fits(counts):
            raise UsageError(
                f"The policy {list(counts)} exceeds the budget: it needs {self.usage(counts):.4g} times as much."
            )
        if self.mode == "at-most":
            return tuple(int(count) for count in counts)
        target = np.asarray(counts, dtype=np.float64) / self._sizes
        return tuple(self._fill(places, target, np.full(places.shape, self._table.shape[1])).tolist())

    def is_full(self, counts: Sequence[int]) -> bool:
        """Whether the counts fit the budget and no group can go up one level within it."""
        places = self._places(counts)
        open_ = np.flatnonzero(self._table[self._rows, places + 1] != _NEVER)
        raised = self._raised(np.asarray(counts, dtype=np.int64), places, open_)
        return self.fits(counts) and not bool(self.fits_many(raised).any())

    def bounds(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the lowest and the highest level worth taking for the decision after ``prefix``.

        The highest is the last that still fits with all later groups at their smallest. In mode "exact" the lowest is
        the first that still reaches the budget with all later groups at their largest; in "at-most" it is the smallest level.
        Where no level fits (``prefix`` is too large already) both are the smallest, where none reaches the budget both
        are the highest that fits.
        """
        levels = self.levels[len(prefix)]
        fitting = np.flatnonzero(self.fits_many(self._along(prefix, levels, self.smallest)))
        highest = int(fitting[-1]) if fitting.size else 0
        lowest = 0
        if self.mode == "exact":
            using = np.flatnonzero(self.usage_many(self._along(prefix, levels, self.largest)) >= 1.0)
            lowest = min(int(using[0]), highest) if using.size else highest
        return levels[lowest], levels[highest]

    def _along(self, prefix: Sequence[int], levels: Sequence[int], rest: Sequence[int]) -> IntArray:
        """Return a policy for each level of the next decision, with ``prefix`` before it and ``rest`` after it."""
        counts = np.tile(np.asarray(rest, dtype=np.int64), (len(levels), 1))
        counts[:, : len(prefix)] = prefix
        counts[:, len(prefix)] = levels
        return counts

    def _places(self, counts: Sequence[int]) -> IntArray:
        try:
            return np.asarray([a.index(int(k)) for a, k in zip(self.levels, counts, strict=True)], dtype=np.int64)
        except ValueError as error:
            raise UsageError(f"The policy {list(counts)} has a count that is not among the allowed ones.") from error
