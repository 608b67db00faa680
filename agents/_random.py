"""Random policies on the budget: what any search must beat at equal cost."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from autoprune.agents._base import Agent, Counts, agents
from autoprune.envs import ProblemLike

TRIES = 24
"""Draws in a row that were all scored before, after which a search ends: there is hardly another policy left."""


@agents.register("random")
class Random(Agent):
    """Keep ratios drawn uniformly between the smallest allowed and 1, projected onto the budget, each policy once.

    Args:
        problem: What is pruned.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most.
    """

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        self._drawn: dict[Counts, None] = {}
        self._ended = False

    def ask(self, episode: int) -> Counts | None:
        """Return the episode's policy, or None where all that are drawn were proposed before."""
        while len(self._drawn) <= episode and not self._ended:
            counts = fresh_policy(self.problem, self.rng(len(self._drawn)), self._drawn)
            if counts is None:
                self._ended = True
            else:
                self._drawn[counts] = None
        return list(self._drawn)[episode] if episode < len(self._drawn) else None

    def ready(self, episode: int, told: int) -> bool:
        """Return True: no score matters."""
        return True


def fresh_policy(problem: ProblemLike, rng: np.random.Generator, known: Collection[Counts]) -> Counts | None:
    """Return a random policy on the budget that is not known yet; None after ``TRIES`` that are.

    Args:
        problem: The problem.
        rng: Where the keep ratios are drawn from.
        known: Policies not to return.
    """
    drawn = (random_policy(problem, rng) for _ in range(TRIES))
    return next((counts for counts in drawn if counts not in known), None)


def random_policy(problem: ProblemLike, rng: np.random.Generator) -> Counts:
    """Return one random policy on the budget.

    Args:
        problem: The problem.
        rng: Where the keep ratios are drawn from.
    """
    ratios = [
        float(rng.uniform(levels[0] / group.size, levels[-1] / group.size))
        for levels, group in zip(problem.levels, problem.decisions, strict=True)
    ]
    return tuple(problem.projector.project(ratios))
