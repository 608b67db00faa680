"""Optuna's samplers that work in generations: CMA-ES and NSGA-II.

Their state is the study itself, which a restored agent gets back by asking for its history again; that costs no scores. They
are told the reward of what their proposal became within the budget, as if the projection were part of what is optimised.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from autoprune.agents._base import Counts, Told, agents
from autoprune.agents._optuna import OptunaAgent
from autoprune.envs import ProblemLike
from autoprune.evaluation import Score


class Generations(OptunaAgent):
    """One that keeps its study.

    Args:
        problem: What is pruned.
        seed: Seed of the sampler.
        episodes: How many policies will be scored.
        population: Policies of a generation; by default what suits the number of episodes.
        start: Whose policies come first: those of the three "rules", of the "statistics", or "nothing".

    Raises:
        UsageError: if an option is of the wrong kind.
    """

    smallest: ClassVar[int] = 2
    """The smallest population that the sampler can work with."""

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        population: int | None = None,
        start: str = "rules",
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes, start=start)
        self.population = min(max(8, episodes // 8), 32) if population is None else population
        self._whole(low=self.smallest, population=self.population)
        with self._quietly():
            sampler = self._sampler(int(self.rng(0).integers(2**31)))
            self._study = self._optuna.create_study(direction="maximize", sampler=sampler)
            for counts in self._first:
                self._study.enqueue_trial(
                    {n: c / g.size for n, c, g in zip(self._space, counts, problem.decisions, strict=True)}
                )
        self._asked: tuple[int, Any, Counts] | None = None

    def _sampler(self, seed: int) -> Any:
        raise NotImplementedError

    def ask(self, episode: int) -> Counts:
        """Return the projection of what the sampler proposes next."""
        if self._asked is None or self._asked[0] != episode:
            with self._quietly():
                trial = self._study.ask(dict(self._space))
            self._asked = (episode, trial, self._applied(trial))
        return self._asked[2]

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Tell the study the reward."""
        self.ask(episode)
        assert self._asked is not None
        with self._quietly():
            self._study.tell(self._asked[1], score.reward)
        self._asked = None

    def restore(self, folder: Path, history: Iterable[Told]) -> None:
        """Become the agent that was told ``history``, by asking again for all of it."""
        for episode, counts, score in history:
            self.tell(episode, counts, score)


@agents.register("cmaes")
class CMAES(Generations):
    """CMA-ES (Hansen & Ostermeier, "Completely Derandomized Self-Adaptation in Evolution Strategies", 2001)."""

    smallest = 4
    packages = ("optuna", "cmaes")

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        return samplers.CmaEsSampler(n_startup_trials=len(self._first), popsize=self.population, seed=seed)


@agents.register("nsga2")
class NSGA2(Generations):
    """NSGA-II (Deb et al. 2002) with the reward as its one aim; with ``--pareto`` it looks for a front (`Front`)."""

    def _sampler(self, seed: int) -> Any:
        return self._optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)
