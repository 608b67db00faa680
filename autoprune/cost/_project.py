"""The two-sided projection: any keep ratios in, channel counts that use the budget and never exceed it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from autoprune.cost._model import CostModel
from autoprune.cost._quadratic import IntArray
from autoprune.errors import UsageError

FloatArray = npt.NDArray[np.float64]

_NEVER = np.iinfo(np.int64).max
_BISECTIONS = 40


class Projector:
    """Makes policies meet a budget of multiply-adds.

    Departs from He et al. 2018 (AMC, algorithm 1), whose bound is one-sided: there a policy may end far below the
    budget. Here what is asked is warped until it meets the budget from below, and the slack that rounding leaves is
    filled.

    Args:
        cost: The cost model.
        budget_macs: The most multiply-adds that a policy may have.
        levels: For each decision the allowed counts, ascending, the group's size last (see `allowed_counts`).
        mode: "exact": use all of the budget, so that no group can go up one level within it. "at-most": policies that
            ask for less stay as they are.

    Attributes:
        smallest: Multiply-adds of the smallest policy that the levels allow.
        largest: Multiply-adds of the largest one.
    """

    def __init__(
        self,
        cost: CostModel,
        budget_macs: int,
        levels: Sequence[tuple[int, ...]],
        mode: Literal["exact", "at-most"] = "exact",
    ) -> None:
        if len(levels) != len(cost.sizes):
            raise ValueError(f"expected levels for {len(cost.sizes)} decisions, got {len(levels)}")
        self.budget_macs = int(budget_macs)
        self.mode = mode
        self.levels = tuple(tuple(int(level) for level in allowed) for allowed in levels)
        self._form = cost.macs_form
        self._curvature = self._form.curvature
        self._sizes: FloatArray = np.asarray([allowed[-1] for allowed in self.levels], dtype=np.float64)
        longest = max((len(allowed) for allowed in self.levels), default=1)
        self._table: IntArray = np.full((len(self.levels), longest + 1), _NEVER, dtype=np.int64)
        for row, allowed in zip(self._table, self.levels, strict=True):
            row[: len(allowed)] = allowed
        # Nearest level, the lower of two equally near: the number of midpoints that lie below.
        self._middles: FloatArray = np.full((len(self.levels), longest - 1), np.inf)
        for middles, allowed in zip(self._middles, self.levels, strict=True):
            middles[: len(allowed) - 1] = (np.asarray(allowed[1:]) + np.asarray(allowed[:-1])) / 2
        self._rows = np.arange(len(self.levels))
        self._lowest: IntArray = self._table[:, 0].copy()
        self._whole: IntArray = np.asarray([allowed[-1] for allowed in self.levels], dtype=np.int64)
        self.smallest = self._form(self._lowest)
        self.largest = self._form(self._whole)

    def _nearest(self, ratios: FloatArray) -> IntArray:
        """Return for each ratio the number of the level nearest to it."""
        wanted = ratios * self._sizes
        result: IntArray = (self._middles < wanted[:, None]).sum(axis=1)
        return result

    def _fits(self, ratios: FloatArray) -> bool:
        return self._form(self._table[self._rows, self._nearest(ratios)]) <= self.budget_macs

    def _warp(self, asked: FloatArray) -> FloatArray:
        """Return the largest warp of ``asked`` that fits.

        Over budget all ratios shrink in proportion; under it all gaps to 1 do. Both keep the order of the ratios and
        leave equal ratios equal.
        """
        if self._fits(asked):
            if self.mode == "at-most":
                return asked
            base, direction = asked, 1.0 - asked
        else:
            base, direction = np.zeros_like(asked), asked
        if self._fits(base + direction):
            return base + direction
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            if self._fits(base + middle * direction):
                low = middle
            else:
                high = middle
        return base + low * direction

    def _fill(self, places: IntArray, target: FloatArray, ceiling: IntArray) -> IntArray:
        """Raise counts a level at a time as long as one fits, first the one that ends least above its target."""
        counts: IntArray = self._table[self._rows, places]
        slack = self.budget_macs - self._form(counts)
        while True:
            above = self._table[self._rows, places + 1]
            open_ = np.flatnonzero((above != _NEVER) & (places < ceiling))
            if not open_.size:
                return counts
            step = above[open_] - counts[open_]
            added = step * (self._form.gradient(counts)[open_] + step * self._curvature[open_])
            fits = added <= slack
            if not fits.any():
                return counts
            open_, added = open_[fits], added[fits]
            best = int(np.argmin(above[open_] / self._sizes[open_] - target[open_]))
            chosen = int(open_[best])
            slack -= int(added[best])
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
        self._check()
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
        if self._form(np.asarray(counts, dtype=np.int64)) > self.budget_macs:
            raise UsageError(f"The policy {list(counts)} exceeds the budget of {self.budget_macs} MACs.")
        if self.mode == "at-most":
            return tuple(int(count) for count in counts)
        target = np.asarray(counts, dtype=np.float64) / self._sizes
        return tuple(self._fill(places, target, np.full(places.shape, self._table.shape[1])).tolist())

    def is_full(self, counts: Sequence[int]) -> bool:
        """Whether the counts fit the budget and no group can go up one level within it."""
        places = self._places(counts)
        now = np.asarray(counts, dtype=np.int64)
        above = self._table[self._rows, places + 1]
        step = np.where(above == _NEVER, 0, above - now)
        after = self._form(now) + step * (self._form.gradient(now) + step * self._curvature)
        return self._form(now) <= self.budget_macs and bool(((step == 0) | (after > self.budget_macs)).all())

    def bounds(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the lowest and the highest level worth taking for the decision after ``prefix``.

        The highest is the last that still fits with all later groups at their smallest. In mode "exact" the lowest is
        the first that still reaches the budget with all later groups whole; in "at-most" it is the smallest level.
        Where no level fits (``prefix`` is too large already) both are the smallest, where none reaches the budget both
        are the highest that fits.
        """
        place = len(prefix)
        levels = np.asarray(self.levels[place], dtype=np.int64)
        low = self._along(prefix, levels, self._lowest)
        highest = max(int(np.searchsorted(low, self.budget_macs, side="right")) - 1, 0)
        lowest = 0
        if self.mode == "exact":
            high = self._along(prefix, levels, self._whole)
            lowest = min(int(np.searchsorted(high, self.budget_macs, side="left")), highest)
        return int(levels[lowest]), int(levels[highest])

    def _along(self, prefix: Sequence[int], levels: IntArray, rest: IntArray) -> IntArray:
        """Return the MACs for each level of the next decision, with ``prefix`` before it and ``rest`` after it."""
        counts = rest.copy()
        counts[: len(prefix)] = prefix
        counts[len(prefix)] = 0
        slope = int(self._form.gradient(counts)[len(prefix)])
        result: IntArray = self._form(counts) + levels * (slope + levels * int(self._curvature[len(prefix)]))
        return result

    def _places(self, counts: Sequence[int]) -> IntArray:
        try:
            return np.asarray([a.index(int(k)) for a, k in zip(self.levels, counts, strict=True)], dtype=np.int64)
        except ValueError as error:
            raise UsageError(f"The policy {list(counts)} has a count that is not among the allowed ones.") from error

    def _check(self) -> None:
        if self.smallest > self.budget_macs:
            raise UsageError(
                f"The budget of {self.budget_macs} MACs cannot be met: the smallest policy allowed has {self.smallest}."
            )
