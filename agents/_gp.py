"""Optuna's Gaussian process with expected improvement, on the keep ratios alone.

Unlike ``auto`` it knows nothing of the network: what a general Bayesian optimiser is worth (Snoek et al., "Practical Bayesian
Optimization of Machine Learning Algorithms", NeurIPS 2012).
"""

from __future__ import annotations

from typing import Any

from autoprune.agents._base import agents
from autoprune.agents._optuna import FromHistory
from autoprune.envs import ProblemLike


@agents.register("gp")
class GP(FromHistory):
    """Optuna's GPSampler, told what was applied.

    Args:
        problem: What is pruned.
        seed: Seed of the samplers.
        episodes: How many policies will be scored.
        startup: Random policies before the sampler takes over.
        start: What the first policies are instead of random ones: those of the three "rules", of the "statistics", or "nothing".

    Raises:
        UsageError: if an option is of the wrong kind.
    """

    def __init__(
        self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100, startup: int = 10, start: str = "rules"
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes, start=start)
        self._whole(startup=startup)
        self.startup = startup

    def _sampler(self, seed: int, startup: int) -> Any:
        return self._optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed)
