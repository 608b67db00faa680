"""Optuna's tree-structured Parzen estimator, multivariate.

Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (NeurIPS 2011); Falkner et al., "BOHB" (ICML 2018).

The study is told what was *applied*, not what was proposed: its densities then live where policies are, and the study is a
function of the history alone, so that a resumed search goes on exactly as an uninterrupted one. The policies of the
simple rules come first, so that the search starts from what is known to work.
"""

from __future__ import annotations

from typing import Any

from autoprune.agents._base import agents
from autoprune.agents._optuna import FromHistory
from autoprune.envs import ProblemLike


@agents.register("tpe")
class TPE(FromHistory):
    """Optuna's TPE sampler, seeded anew for every trial.

    Args:
        problem: What is pruned.
        seed: Seed of the samplers.
        episodes: How many policies will be scored.
        startup: Random policies before the sampler takes over; by default a tenth of the episodes, at least 10.
        candidates: Candidates the acquisition function chooses from per trial (Optuna's ``n_ei_candidates``).
        start: What the first policies are instead of random ones: those of the three "rules", of the "statistics", or "nothing".

    Raises:
        UsageError: if ``startup`` or ``candidates`` is not a whole number of at least 1, or ``start`` is unknown.
    """

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        startup: int | None = None,
        candidates: int = 24,
        start: str = "rules",
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes, start=start)
        self.startup = max(10, episodes // 10) if startup is None else startup
        self.candidates = candidates
        self._whole(startup=self.startup, candidates=candidates)

    def _sampler(self, seed: int, startup: int) -> Any:
        return self._optuna.samplers.TPESampler(
            n_startup_trials=startup, n_ei_candidates=self.candidates, multivariate=True, seed=seed
        )
