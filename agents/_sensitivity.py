"""Per-layer sensitivity curves, then one common loss increase for all: the way of AIMET and FastNAS.

Assumes that the losses of pruning several groups add up, and asks for no search: a few probes per group and one result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from autoprune.agents._base import Agent, Counts, agents
from autoprune.envs import ProblemLike
from autoprune.evaluation import Score

MOST_PROBES = 8  # per group; more would measure the noise of the score
_NO_LOSS = 1e6  # stands for a loss that is not finite: worse than any, but still a number to interpolate


@agents.register("sensitivity")
class Sensitivity(Agent):
    """Measures how the loss grows as one group shrinks, then allows every group the same growth.

    The first policies are probes: one group at some keep ratio, all others as large as is allowed. They are usually *above the
    budget* and not meant as results. The last one is: a common loss increase is bisected, every group gets the smallest count
    whose interpolated curve stays below it, and what is left of the budget is filled in.

    With E episodes and T groups every group gets (E - 1) // T probes, at most 8. With fewer episodes than groups only
    every so many-th group is probed, and the others take the curve interpolated between their neighbours.

    Args:
        problem: What is pruned.
        seed: Not used, nothing here is random.
        episodes: How many policies will be scored at most.
    """

    needs_budget = True
    one_policy = True

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        self._probes = _plan(problem.levels, episodes - 1)
        self.probes = len(self._probes)
        self._losses: dict[tuple[int, int], float] = {}

    def ask(self, episode: int) -> Counts | None:
        """Return a probe (usually above the budget), then the policy, then None."""
        if episode < len(self._probes):
            index, count = self._probes[episode]
            largest = [levels[-1] for levels in self.problem.levels]
            return (*largest[:index], count, *largest[index + 1 :])
        return self._policy() if episode == len(self._probes) else None

    def ready(self, episode: int, told: int) -> bool:
        """Return whether it is a probe, or all probes are told."""
        return episode < len(self._probes) or episode <= told

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Keep a probe's loss."""
        if episode < len(self._probes):
            self._losses[self._probes[episode]] = self._loss(score)

    def _loss(self, score: Score) -> float:
        """Return the loss, or what the metric is short of 1 where none is measured (then the dense network has none)."""
        if not math.isfinite(self.problem.dense.loss):
            return 1.0 - score.quality
        return score.loss if math.isfinite(score.loss) else _NO_LOSS

    def _policy(self) -> Counts:
        """Return the policy of the largest common loss increase not above which the budget is exceeded."""
        increases = self._increases()
        low, high = 0.0, max(float(max((some[0] for some in increases), default=0.0)), 1e-12)
        if self._fits(increases, low):
            high = low
        for _ in range(50):
            middle = (low + high) / 2
            if self._fits(increases, middle):
                high = middle
            else:
                low = middle
        return tuple(self.problem.projector.fill(self._allow(increases, high)))

    def _fits(self, increases: Sequence[Sequence[float]], limit: float) -> bool:
        return self.problem.projector.fits(self._allow(increases, limit))

    def _allow(self, increases: Sequence[Sequence[float]], limit: float) -> Counts:
        """Return for each group the smallest level whose increase is at most ``limit``."""
        return tuple(
            next(level for level, increase in zip(levels, some, strict=True) if increase <= limit)
            for levels, some in zip(self.problem.levels, increases, strict=True)
        )

    def _increases(self) -> list[list[float]]:
        """Return the loss increase of every level of every group: never rising with the count, 0 for the whole group."""
        dense = self._loss(self.problem.dense)
        groups = len(self.problem.decisions)
        knots: dict[int, list[tuple[float, float]]] = {}
        for (index, count), loss in sorted(self._losses.items()):
            ratio = count / self.problem.decisions[index].size
            knots.setdefault(index, []).append((ratio, max(loss - dense, 0.0)))
        curves = {index: _monotone([*points, (1.0, 0.0)]) for index, points in knots.items()} or {
            0: ([0.0, 1.0], [1.0, 0.0])
        }
        increases = []
        for index in range(groups):
            ratios = [level / self.problem.decisions[index].size for level in self.problem.levels[index]]
            near = sorted(curves)
            left = max((other for other in near if other <= index), default=near[0])
            right = min((other for other in near if other >= index), default=near[-1])
            share = (index - left) / (right - left) if right > left else 0.0
            some = (1 - share) * _at(ratios, curves[left]) + share * _at(ratios, curves[right])
            some[-1] = 0.0
            increases.append([float(value) for value in some])
        return increases


Curve = tuple[list[float], list[float]]


def _monotone(points: list[tuple[float, float]]) -> Curve:
    """Return the points with every increase at least as large as that of any larger ratio."""
    ratios, values = zip(*sorted(points), strict=True)
    return list(ratios), list(np.maximum.accumulate(values[::-1])[::-1])


def _at(ratios: list[float], curve: Curve) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a curve's increase at the ratios: linear between its points, and on along the first stretch below them."""
    x, y = curve
    slope = (y[0] - y[1]) / (x[1] - x[0])
    below = np.maximum(x[0] - np.asarray(ratios), 0.0)
    return np.interp(ratios, x, y) + slope * below


def _plan(levels: Sequence[tuple[int, ...]], probes: int) -> list[tuple[int, int]]:
    """Return the probes as (group, count): the same number for every group, from the smallest ratio up.

    Args:
        levels: The allowed counts of every group; the largest needs no probe.
        probes: How many there may be at most.
    """
    groups = len(levels)
    each = min(probes // groups, MOST_PROBES) if groups else 0
    if each == 0:
        chosen = np.unique(np.linspace(0, groups - 1, max(probes, 0)).round().astype(int)).tolist() if groups else []
        return [(index, levels[index][(len(levels[index]) - 1) // 2]) for index in chosen if len(levels[index]) > 1]
    plan = []
    for step in range(each):
        for index, allowed in enumerate(levels):
            smaller = allowed[:-1]
            place = round(step * len(smaller) / each) if each > 1 else len(smaller) // 2
            if place < len(smaller):
                plan.append((index, smaller[place]))
    return list(dict.fromkeys(plan))
