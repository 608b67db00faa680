"""A whole front at once: accuracy against a cost, by Optuna's multi-objective samplers.

Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (IEEE Trans. Evol. Comp. 2002); Ozaki et al.,
"Multiobjective tree-structured Parzen estimator" (JAIR 2022). One float parameter ``keep.<group name>`` per decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autoprune.agents._base import Agent, Counts, Told
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.support.packages import require

SAMPLERS = ("nsga2", "tpe")
_UNIFORM = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25)


class Front(Agent):
    """Searches for policies of which none is both smaller and more accurate than another.

    Args:
        problem: What is pruned; its budget names the cost (``minimize``).
        seed: Seed of the sampler.
        episodes: How many policies will be scored.
        sampler: "nsga2" or "tpe".
        population: Policies of a generation (NSGA-II), or random ones before the sampler takes over (TPE); by default a fifth
            of the episodes, from 10 to 50.
        rules: Whether the first policies keep the same share everywhere, from all channels to a quarter, instead of random ones.

    Raises:
        UsageError: if an option is of the wrong kind, or the budget names no cost.
    """

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        sampler: str = "nsga2",
        population: int | None = None,
        rules: bool = True,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        require("A front needs", "optuna")
        import optuna

        if problem.budget.minimize is None:
            raise UsageError("A front needs to know which cost to set against accuracy; give --pareto.")
        if sampler not in SAMPLERS:
            raise UsageError(f"The sampler of a front is '{sampler}', but must be one of {', '.join(SAMPLERS)}.")
        size = min(max(10, episodes // 5), 50) if population is None else population
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise UsageError(f"The value of 'population' is {size!r}, but must be a whole number of at least 2.")
        if not isinstance(rules, bool):
            raise UsageError(f"The value of 'rules' is {rules!r}, but must be true or false.")
        self._kind = problem.budget.minimize
        self._space = {
            f"keep.{group.name}": optuna.distributions.FloatDistribution(
                levels[0] / group.size, levels[-1] / group.size
            )
            for group, levels in zip(problem.decisions, problem.levels, strict=True)
        }
        start = int(self.rng(0).integers(2**31))
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            chosen: Any = (
                optuna.samplers.NSGAIISampler(population_size=size, seed=start)
                if sampler == "nsga2"
                else optuna.samplers.TPESampler(n_startup_trials=size, multivariate=True, seed=start)
            )
            self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)
            for share in _UNIFORM if rules else ():
                self._study.enqueue_trial(
                    {name: min(max(share, space.low), space.high) for name, space in self._space.items()}
                )
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._asked: tuple[int, Any, Counts] | None = None

    def ask(self, episode: int) -> Counts:
        """Return the policy that the sampler proposes next."""
        if self._asked is None or self._asked[0] != episode:
            trial = self._study.ask(dict(self._space))
            counts = self.problem.projector.project([trial.params[name] for name in self._space])
            self._asked = (episode, trial, tuple(counts))
        return self._asked[2]

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Tell the study accuracy and cost."""
        self.ask(episode)
        assert self._asked is not None
        self._study.tell(self._asked[1], [score.quality, score.of(self._kind)])
        self._asked = None

    def restore(self, folder: Path, history: Iterable[Told]) -> None:
        """Become the agent that was told ``history``, by asking again for all of it."""
        for episode, counts, score in history:
            self.tell(episode, counts, score)
