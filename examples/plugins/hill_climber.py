"""An agent of one's own: start from equal keep ratios and step from the best policy so far.

From this folder the same is ``autoprune search --agent hill_climber:HillClimber --episodes 10``.
"""

from __future__ import annotations

import math

import autoprune
from autoprune.agents import Agent, agents
from autoprune.data import load_data
from autoprune.envs import ProblemLike
from autoprune.evaluation import Score
from autoprune.models import load_model


@agents.register("hill-climber")
class HillClimber(Agent):
    """Changes all keep ratios of the best policy a little; what is better becomes the best."""

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100, step: float = 0.2) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        self._sizes = [group.size for group in problem.decisions]
        self._step = step
        self._best = [0.5] * len(self._sizes)
        self._reward = -math.inf

    def ask(self, episode: int) -> tuple[int, ...]:
        """Return the best policy with some noise, projected onto the budget."""
        noise = self.rng(episode).normal(0.0, self._step if episode else 0.0, len(self._sizes))
        return self.problem.projector.project([ratio + change for ratio, change in zip(self._best, noise, strict=True)])

    def tell(self, episode: int, counts: tuple[int, ...], score: Score) -> None:
        """Remember the best policy; a restored agent is told the same again."""
        if score.reward > self._reward:
            self._reward = score.reward
            self._best = [count / size for count, size in zip(counts, self._sizes, strict=True)]


def main() -> None:
    """Search with it."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    parts = {"calibration": images.calibration, "evaluate": images.search, "report": images.report}
    example = dense.example_input()
    quick = {"baselines": ("uniform",), "finish_steps": 0}  # seconds; leave it out for the best network
    result = autoprune.search(dense.model, example, **parts, **quick, budget=0.5, agent="hill-climber", episodes=4)
    print(result.table)


if __name__ == "__main__":
    main()
