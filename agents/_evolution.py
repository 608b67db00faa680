"""Evolution at the budget: parents by tournament, children by crossover and mutation.

Regularised evolution (Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019) with a
crossover added: the oldest policies leave the population, not the worst, so that a lucky score does not stay for ever.
"""

from __future__ import annotations

import numpy as np

from autoprune.agents._base import Agent, Counts, agents
from autoprune.agents._random import fresh_policy
from autoprune.agents._start import first_policies
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.evaluation import Score

TRIES = 8  # children that are made until one was not scored before


@agents.register("evolution")
class Evolution(Agent):
    """Changes good policies a little and mixes them; every child is projected onto the budget.

    Args:
        problem: What is pruned.
        seed: Where its random numbers come from.
        episodes: How many policies will be scored.
        population: How many of the latest policies may be parents; by default a quarter of the episodes, from 8 to 32.
        tournament: How many of them are drawn for a parent; the best of these is.
        mutation: Standard deviation of what is added to a keep ratio.
        start: What the first policies are: those of the three "rules", of the "statistics", or "nothing"; the others of the
            first generation are random.

    Raises:
        UsageError: if an option is out of range.
    """

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        population: int | None = None,
        tournament: int = 4,
        mutation: float = 0.15,
        start: str = "rules",
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        self.population = min(max(8, episodes // 4), 32) if population is None else population
        for name, value in (("population", self.population), ("tournament", tournament)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise UsageError(
                    f"The value of '{name}' is {value!r}, but evolution needs a whole number of at least 2."
                )
        if isinstance(mutation, bool) or not isinstance(mutation, int | float) or not 0 < mutation <= 1:
            raise UsageError(f"The value of 'mutation' is {mutation!r}, but evolution needs a number in (0, 1].")
        self._tournament, self._mutation = tournament, float(mutation)
        self._first = first_policies(problem, start, agent="evolution")
        self._sizes = np.array([group.size for group in problem.decisions], dtype=np.float64)
        self._told: list[tuple[float, Counts]] = []
        self._ended = False

    def ask(self, episode: int) -> Counts | None:
        """Return what it starts with and random policies at first, then a child; None when there is no other policy."""
        if episode < len(self._first):
            return self._first[episode]
        if episode < self.population // 2:
            return self._random(episode)
        if self._ended:
            return None
        rng = self.rng(episode)
        known = {counts for _, counts in self._told}
        children = (self._child(rng) for _ in range(TRIES))
        new = next((child for child in children if child not in known), None) or fresh_policy(self.problem, rng, known)
        self._ended = new is None
        return new

    def ready(self, episode: int, told: int) -> bool:
        """Return whether it is one of the start's or a random policy, or all before it are told."""
        return episode < max(len(self._first), self.population // 2) or episode <= told

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Let the policy into the population."""
        self._told.append((score.reward, counts))

    def _random(self, episode: int) -> Counts | None:
        """Return a random policy of the first generation, which no score has to be known for."""
        while len(self._first) <= episode:
            counts = fresh_policy(self.problem, self.rng(len(self._first)), self._first)
            if counts is None:
                return None
            self._first.append(counts)
        return self._first[episode]

    def _child(self, rng: np.random.Generator) -> Counts:
        """Return a policy that has some ratios of one parent and the others of another, and some of them changed."""
        mother, father = self._parent(rng), self._parent(rng)
        ratios = np.where(rng.random(len(self._sizes)) < 0.5, mother, father)
        changed = rng.random(len(self._sizes)) < max(1.5 / len(self._sizes), 0.15)
        changed[int(rng.integers(len(self._sizes)))] = True
        ratios = ratios + changed * rng.normal(0.0, self._mutation, len(self._sizes))
        return self.problem.projector.project(np.clip(ratios, 0.0, 1.0).tolist())

    def _parent(self, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the keep ratios of the best of some of the latest policies."""
        latest = self._told[-self.population :]
        drawn = rng.integers(len(latest), size=self._tournament)
        _, counts = max((latest[int(place)] for place in drawn), key=lambda item: item[0])
        return np.array(counts, dtype=np.float64) / self._sizes
