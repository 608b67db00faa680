"""NetAdapt (Yang et al., "NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications", ECCV 2018), algorithm 1.

From the whole network on, the budget is lowered step by step. Each step proposes, for every group, the network in which this
group alone is narrowed until the step's budget is met, scores all of them, and goes on from the best. The paper fine-tunes
briefly where here the refit does it, and takes layers where here coupling groups are decided.
"""

from __future__ import annotations

from autoprune.agents._base import Agent, Counts, agents
from autoprune.envs import ProblemLike
from autoprune.evaluation import Score


@agents.register("netadapt")
class NetAdapt(Agent):
    """Greedy, one group a step, as many steps as the episodes pay for.

    Most of its policies are *above the budget*, steps on the way; the last ones are within it.

    Args:
        problem: What is pruned.
        seed: Not used, nothing here is random.
        episodes: How many policies will be scored at most: the number of steps is this over the number of groups.
    """

    needs_budget = True

    def __init__(self, problem: ProblemLike, *, seed: int = 0, episodes: int = 100) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        self._now: Counts = tuple(levels[-1] for levels in problem.levels)
        self._usage = max(problem.projector.usage(self._now), 1.0)
        self._steps = max(1, episodes // max(len(problem.levels), 1) - 1)
        self._step = 0
        self._first = 0  # the episode of the step's first proposal
        self._done = False
        self._plan = self._proposals()
        self._told: list[tuple[float, Counts]] = []

    def ask(self, episode: int) -> Counts | None:
        """Return the step's next proposal; None after the last step."""
        return None if self._done else self._plan[episode - self._first]

    def ready(self, episode: int, told: int) -> bool:
        """Return whether it is one of the step's proposals."""
        return episode < self._first + len(self._plan) or episode <= told

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Keep the score; after the step's last proposal go on from the best one."""
        self._told.append((score.reward, counts))
        if len(self._told) < len(self._plan):
            return
        self._now = max(self._told, key=lambda item: item[0])[1]
        self._told = []
        self._first = episode + 1
        if self.problem.projector.fits(self._now):
            self._done = True
            return
        self._step += 1
        self._plan = self._proposals()

    def _proposals(self) -> list[Counts]:
        """Return for each group the network with it alone narrowed to the step's budget; where none gets there, the projection.

        At the last step what is left of the budget is filled in.
        """
        projector, levels = self.problem.projector, self.problem.levels
        share = (self._step + 1) / self._steps
        target = 1.0 if share >= 1.0 else self._usage ** (1.0 - share)
        found: list[Counts] = []
        for group, allowed in enumerate(levels):
            smaller = [level for level in allowed if level < self._now[group]]
            tried = [(*self._now[:group], level, *self._now[group + 1 :]) for level in reversed(smaller)]
            meets = [counts for counts in tried if projector.usage(counts) <= target]
            if meets:
                found.append(projector.fill(meets[0]) if projector.fits(meets[0]) else meets[0])
        if not found:
            ratios = [count / group.size for count, group in zip(self._now, self.problem.decisions, strict=True)]
            found = [projector.project(ratios)]
        return list(dict.fromkeys(found))
