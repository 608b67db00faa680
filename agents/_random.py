"""Random policies on the budget: what any search must beat at equal cost."""

from __future__ import annotations

import numpy as np

from autoprune.agents._base import Agent, Counts, agents
from autoprune.envs import ProblemLike


@agents.register("random")
class Random(Agent):
    """Keep ratios drawn uniformly between the smallest allowed and 1, projected onto the budget."""

    def ask(self, episode: int) -> Counts:
        """Return the episode's policy."""
        return random_policy(self.problem, self.rng(episode))

    def ready(self, episode: int, told: int) -> bool:
        """Return True: no score matters."""
        return True


def random_policy(problem: ProblemLike, rng: np.random.Generator) -> Counts:
    """Return one random policy on the budget.

    Args:
        problem: The problem.
        rng: Where the keep ratios are drawn from.
    """
    smallest = [levels[0] / group.size for levels, group in zip(problem.levels, problem.decisions, strict=True)]
    return tuple(problem.projector.project([float(rng.uniform(low, 1.0)) for low in smallest]))
