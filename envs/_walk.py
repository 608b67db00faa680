"""One game without the score: decisions taken one after the other within the budget.

The environment plays it with a score at the end; agents play it to propose, and walk a finished policy again to learn
from what was really applied. Feasibility is two-sided (``projector.bounds``): a keep ratio is raised where everything
after it could no longer use up the budget, and lowered where nothing after it could save enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autoprune.envs._features import Features, FloatArray
from autoprune.envs._protocol import ProblemLike


class Trajectory(NamedTuple):
    """A finished policy as the game's transitions.

    Attributes:
        observations: What was seen before each decision and after the last, shape (T + 1, 11).
        actions: The applied actions in [-1, 1], shape (T, 1).
    """

    observations: FloatArray
    actions: FloatArray


def to_ratio(action: float) -> float:
    """Return the keep ratio in [0, 1] for an action in [-1, 1]."""
    return min(max((float(action) + 1.0) / 2.0, 0.0), 1.0)


def to_action(ratio: float) -> float:
    """Return the action in [-1, 1] for a keep ratio in [0, 1]."""
    return 2.0 * ratio - 1.0


class Walk:
    """A game in progress.

    Args:
        problem: The problem; it is never scored here.
        features: The problem's features, to share them between walks; computed if left out.
        raises: Whether a keep ratio is raised where the budget could no longer be used up; if not, it is only lowered where it
            could no longer be met (the paper's algorithm 1).

    Attributes:
        prefix: Counts applied so far.
    """

    def __init__(self, problem: ProblemLike, features: Features | None = None, *, raises: bool = True) -> None:
        self._problem = problem
        self._raises = raises
        self._features = features or Features(problem)
        self.prefix: list[int] = []

    def done(self) -> bool:
        """Whether every decision is taken."""
        return len(self.prefix) == len(self._problem.decisions)

    @property
    def macs(self) -> int:
        """MACs of the network with the decisions so far applied and everything after them whole."""
        whole = [group.size for group in self._problem.decisions[len(self.prefix) :]]
        return self._problem.cost.macs([*self.prefix, *whole])

    def observe(self) -> FloatArray:
        """Return the features of the next decision, shape (11,)."""
        return self._features.observe(self.prefix)

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and highest keep ratio that the next decision may take."""
        low, high = self._bounds()
        size = self._problem.decisions[len(self.prefix)].size
        return low / size, high / size

    def _bounds(self) -> tuple[int, int]:
        low, high = self._problem.projector.bounds(self.prefix)
        return low if self._raises else self._problem.levels[len(self.prefix)][0], high

    def step(self, ratio: float) -> float:
        """Take the next decision.

        Args:
            ratio: The keep ratio asked for. The allowed count nearest to it within the bounds is applied.

        Returns:
            The keep ratio applied.
        """
        index = len(self.prefix)
        size = self._problem.decisions[index].size
        low, high = self._bounds()
        levels = [level for level in self._problem.levels[index] if low <= level <= high]
        count = min(levels or [high], key=lambda level: abs(level - ratio * size))
        self.prefix.append(count)
        return count / size

    def finish(self) -> tuple[int, ...]:
        """Return the finished policy's counts: the decisions taken, and what is left of the budget filled in."""
        return tuple(self._problem.projector.fill(self.prefix))


def trajectory(problem: ProblemLike, counts: Sequence[int], features: Features | None = None) -> Trajectory:
    """Return the transitions a finished policy amounts to.

    The counts alone decide them, wherever the policy came from: so an agent learns from what was applied after the
    projection and the filling, and can learn from a run folder's history.

    Args:
        problem: The problem.
        counts: The policy's counts, one per decision.
        features: The problem's features, to share them between calls; computed if left out.
    """
    features = features or Features(problem)
    observations = np.stack([features.observe(counts[:step]) for step in range(len(counts) + 1)])  # (T + 1, 11)
    ratios = [count / group.size for count, group in zip(counts, problem.decisions, strict=True)]
    actions = np.array([[to_action(ratio)] for ratio in ratios], dtype=np.float32)  # (T, 1)
    return Trajectory(observations, actions)
