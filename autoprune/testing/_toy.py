"""A problem small enough to be solved: a chain of convolutions whose accuracy is a formula.

It has everything an environment or an agent asks of a problem and answers in microseconds, so that an agent can be
tested against the true optimum instead of against a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np
import numpy.typing as npt

from autoprune.budget import Budget
from autoprune.evaluation import RewardFn, Score, accuracy, call_reward
from autoprune.graph import Group, Layer


@dataclass(frozen=True)
class ToyGraph:
    """The layers of the chain."""

    layers: tuple[Layer, ...]


class ToyCost:
    """MACs and parameters of the chain for the counts its inner channels keep.

    Args:
        widths: Channels of the image, of every inner tensor, and the classes, shape (T + 2,).
        positions: Output positions times kernel size of every layer, shape (T + 1,).
    """

    def __init__(self, widths: Sequence[int], positions: Sequence[int]) -> None:
        self._first, *inner, self._last = widths
        self._positions = tuple(positions)
        self.dense_macs = self.macs(inner)
        self.dense_params = self.params(inner)

    def layer_macs(self, counts: Sequence[int]) -> list[int]:
        """Return the MACs of every layer, shape (T + 1,)."""
        widths = [self._first, *counts, self._last]
        return [m * int(a) * int(b) for m, (a, b) in zip(self._positions, pairwise(widths), strict=True)]

    def macs(self, counts: Sequence[int]) -> int:
        """Return the MACs of the chain."""
        return sum(self.layer_macs(counts))

    def many(self, counts: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the MACs of many policies; counts of shape (N, T), result of shape (N,)."""
        widths = np.pad(np.asarray(counts, dtype=np.int64), ((0, 0), (1, 1)))
        widths[:, 0], widths[:, -1] = self._first, self._last
        macs: npt.NDArray[np.int64] = (widths[:, :-1] * widths[:, 1:]) @ np.array(self._positions, dtype=np.int64)
        return macs

    def params(self, counts: Sequence[int]) -> int:
        """Return the number of weights, counting every kernel as 3x3."""
        widths = [self._first, *counts, self._last]
        return sum(9 * int(a) * int(b) for a, b in pairwise(widths))


class ToyProjector:
    """The plainest projection that satisfies the contract: one shift for all ratios, then a greedy fill.

    Args:
        cost: The cost model.
        budget_macs: The largest number of MACs a policy may have.
        levels: The counts allowed for each decision, ascending.
        exact: Whether what is left of the budget must be used up.
    """

    def __init__(self, cost: ToyCost, budget_macs: int, levels: Sequence[tuple[int, ...]], *, exact: bool) -> None:
        self._cost = cost
        self._levels = levels
        self._exact = exact
        self.budget_macs = budget_macs

    def project(self, ratios: Sequence[float]) -> tuple[int, ...]:
        """Return counts within the budget: the ratios shifted by one number, rounded down, what is left filled in."""
        low, high = -1.0, 1.0 if self._exact else 0.0
        for _ in range(30):
            middle = (low + high) / 2
            if self._reaches(ratios, middle):
                low = middle
            else:
                high = middle
        return self.fill(self._round(ratios, high if self._reaches(ratios, high) else low))

    def fill(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Return ``counts`` with every group raised in turn, level by level, while the budget allows it."""
        filled = list(counts)
        raised = self._exact
        while raised:
            raised = False
            for index, levels in enumerate(self._levels):
                above = [level for level in levels if level > filled[index]]
                trial = [*filled[:index], above[0], *filled[index + 1 :]] if above else filled
                if above and self._cost.macs(trial) <= self.budget_macs:
                    filled, raised = trial, True
        return tuple(filled)

    def bounds(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the lowest and highest level after ``prefix`` that can still use up and still meet the budget."""
        index = len(prefix)
        small = [levels[0] for levels in self._levels[index + 1 :]]
        whole = [levels[-1] for levels in self._levels[index + 1 :]]
        levels = self._levels[index]
        fit = [level for level in levels if self._cost.macs([*prefix, level, *small]) <= self.budget_macs]
        high = max(fit, default=levels[0])
        using = [level for level in levels if self._cost.macs([*prefix, level, *whole]) >= self.budget_macs]
        low = min(using, default=levels[-1]) if self._exact else levels[0]
        return min(low, high), high

    def _round(self, ratios: Sequence[float], shift: float) -> tuple[int, ...]:
        return tuple(
            max((level for level in levels if level <= (ratio + shift) * levels[-1]), default=levels[0])
            for ratio, levels in zip(ratios, self._levels, strict=True)
        )

    def _reaches(self, ratios: Sequence[float], shift: float) -> bool:
        return self.fits(self._round(ratios, shift))

    def fits(self, counts: Sequence[int]) -> bool:
        """Whether a policy is within the budget."""
        return self._cost.macs(counts) <= self.budget_macs

    def fits_many(self, counts: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which of many policies are within the budget; counts of shape (N, T), result of shape (N,)."""
        return self._cost.many(counts) <= self.budget_macs

    def usage(self, counts: Sequence[int]) -> float:
        """Return the share of the budget that a policy uses."""
        return self._cost.macs(counts) / self.budget_macs

    def usage_many(self, counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the usage of many policies; counts of shape (N, T), result of shape (N,)."""
        return self._cost.many(counts) / self.budget_macs


class ToyProblem:
    """A chain of 3x3 convolutions; every channel kept adds to the accuracy, with diminishing returns.

    The accuracy is ``0.95 - sum(w[g] * (1 - counts[g] / size[g])**2)`` with weights ``w`` that differ strongly between
    groups and add up to 0.9: a smooth, separable function with one optimum on the budget, far from the uniform policy.

    Args:
        decisions: Number of decisions.
        budget: Share of the MACs to keep.
        mode: The budget's mode.
        steps: Allowed counts per decision.
        reward: The reward function.
        seed: What the widths and weights are drawn from.
    """

    def __init__(
        self,
        decisions: int = 6,
        *,
        budget: float = 0.5,
        mode: Literal["exact", "at-most"] = "exact",
        steps: int = 8,
        reward: RewardFn = accuracy,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        inner = [int(steps * rng.integers(1, 5)) for _ in range(decisions)]
        sizes = [2 ** max(1, 4 - 4 * index // (decisions + 1)) for index in range(decisions + 1)]
        weights = np.exp(rng.normal(0.0, 1.5, decisions))
        self._weights = 0.9 * weights / weights.sum()
        self._reward = reward
        self.cost = ToyCost([3, *inner, 10], [9 * size * size for size in sizes])
        self.graph = ToyGraph(_layers([3, *inner, 10], sizes, self.cost.layer_macs(inner)))
        self.decisions = tuple(
            Group(f"conv{i}", i, size, "inner", (), (f"conv{i}",), (f"conv{i + 1}",)) for i, size in enumerate(inner)
        )
        self.levels = tuple(tuple(size * step // steps for step in range(1, steps + 1)) for size in inner)
        self.budget = Budget(budget, mode)
        self.projector = ToyProjector(self.cost, int(budget * self.cost.dense_macs), self.levels, exact=mode == "exact")
        self.dense = Score(0.95, 0.05, self.cost.dense_macs, self.cost.dense_params)
        self.scored = 0

    def score(self, counts: Sequence[int]) -> Score:
        """Return the score of a policy, and count it in ``scored``."""
        self.scored += 1
        share = np.array([count / group.size for count, group in zip(counts, self.decisions, strict=True)])
        value = 0.95 - float((self._weights * (1.0 - share) ** 2).sum())
        score = Score(value, 1.0 - value, self.cost.macs(counts), self.cost.params(counts), seconds=1e-6, cost=1.0)
        reward = call_reward(self._reward, score, self.dense, self.budget)
        return Score(**{**score.to_dict(), "reward": reward})

    def at(self, budget: Budget) -> ToyProblem:
        """Return the same problem with another budget of MACs."""
        other = copy(self)
        other.budget = budget
        limit = budget.limit("macs")
        most = self.cost.dense_macs if limit is None else int(limit.of(self.cost.dense_macs))
        other.projector = ToyProjector(self.cost, most, self.levels, exact=budget.mode == "exact")
        return other

    def optimum(self) -> tuple[tuple[int, ...], float]:
        """Return the best policy within the budget and its accuracy, found by trying every one (for few decisions)."""
        grid = np.array(list(product(*self.levels)), dtype=np.int64)  # (policies, T)
        shares = grid / np.array([group.size for group in self.decisions])
        values = 0.95 - (self._weights * (1.0 - shares) ** 2).sum(axis=1)
        values[self.cost.many(grid) > self.projector.budget_macs] = -np.inf
        best = int(values.argmax())
        return tuple(int(count) for count in grid[best]), float(values[best])


def _layers(widths: Sequence[int], sizes: Sequence[int], macs: Sequence[int]) -> tuple[Layer, ...]:
    """Return the chain's layers, each a 3x3 convolution on a square of ``sizes`` positions a side."""
    layers = []
    for index, (size, n_macs) in enumerate(zip(sizes, macs, strict=True)):
        before = sizes[max(index - 1, 0)]
        channels, filters = widths[index], widths[index + 1]
        layers.append(
            Layer(
                name=f"conv{index}",
                node=f"conv{index}",
                op="conv",
                weight=f"conv{index}.weight",
                bias=None,
                in_channels=channels,
                out_channels=filters,
                kernel=(3, 3),
                stride=(before // size, before // size),
                padding=(1, 1),
                dilation=(1, 1),
                groups=1,
                in_shape=(1, channels, before, before),
                out_shape=(1, filters, size, size),
                in_group=np.full(channels, index - 1, dtype=np.int64),
                in_unit=np.arange(channels, dtype=np.int64),
                out_group=np.full(filters, index if index < len(sizes) - 1 else -1, dtype=np.int64),
                out_unit=np.arange(filters, dtype=np.int64),
                norm=None,
                macs=n_macs,
            )
        )
    return tuple(layers)
