"""Optuna's tree-structured Parzen estimator, multivariate.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011); Falkner et al., "BOHB" (ICML 2018).

One float parameter ``keep.<group name>`` per decision. The sampler proposes keep ratios, the projector moves them onto
the budget, and the study is told what was *applied*: its densities then live where policies are, and the study is a
function of the history alone, so that a resumed search goes on exactly as an uninterrupted one. The policies of the
simple rules come first, so that the search starts from what is known to work.
"""

from __future__ import annotations

from typing import Any

from autoprune.agents._base import Agent, Counts, agents
from autoprune.agents._rules import rule_policies
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.score import Score


@agents.register("tpe")
class TPE(Agent):
    """Optuna's TPE sampler, seeded anew for every trial.

    Args:
        problem: What is pruned.
        seed: Seed of the samplers.
        episodes: How many policies will be scored.
        startup: Random policies before the sampler takes over; by default a tenth of the episodes, at least 10.
        candidates: Candidates the acquisition function chooses from per trial (Optuna's ``n_ei_candidates``).
        rules: Whether the first policies are those of the three rules instead of random ones.

    Raises:
        UsageError: if ``startup`` or ``candidates`` is not a whole number of at least 1, or ``rules`` is not a bool.
    """

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        startup: int | None = None,
        candidates: int = 24,
        rules: bool = True,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        import optuna

        self.startup = max(10, episodes // 10) if startup is None else startup
        self.candidates = candidates
        for name, value in (("startup", self.startup), ("candidates", candidates)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(
                    f"The value of '{name}' is {value!r}, but the tpe agent needs a whole number of at least 1."
                )
        if not isinstance(rules, bool):
            raise UsageError(f"The value of 'rules' is {rules!r}, but the tpe agent needs true or false.")
        self._first = rule_policies(problem) if rules else []
        self._optuna = optuna
        self._space = {
            f"keep.{group.name}": optuna.distributions.FloatDistribution(min(levels[0] / group.size, 1.0), 1.0)
            for group, levels in zip(problem.decisions, problem.levels, strict=True)
        }
        self._trials: list[Any] = []

    def ask(self, episode: int) -> Counts:
        """Return a rule's policy at first, then the projection of what the sampler proposes."""
        if episode < len(self._first):
            return self._first[episode]
        trial = self._study(episode).ask(dict(self._space))
        return tuple(self.problem.projector.project([trial.params[name] for name in self._space]))

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Add the applied keep ratios and the reward to the history the study is built from."""
        ratios = [count / group.size for count, group in zip(counts, self.problem.decisions, strict=True)]
        trial = self._optuna.trial.create_trial(
            params=dict(zip(self._space, ratios, strict=True)), distributions=dict(self._space), value=score.reward
        )
        self._trials.append(trial)

    def _study(self, episode: int) -> Any:
        """Return a study that holds the history, its sampler seeded for one episode."""
        optuna = self._optuna
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=self.startup,
                n_ei_candidates=self.candidates,
                multivariate=True,
                seed=int(self.rng(episode).integers(2**31)),
            )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            study.add_trials(self._trials)
        finally:
            optuna.logging.set_verbosity(verbosity)
        return study
