"""Fixed rules: one policy each, no learning. The rows every search must beat.

``shallow`` and ``deep`` are the handcrafted policies that He et al., AMC (ECCV 2018), compare with in table 2: they
prune the shallow and the deep layers aggressively. The paper does not give their numbers; here the keep ratio is a
straight line over depth.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from autoprune.agents._base import Agent, Counts, agents
from autoprune.envs import ProblemLike

RULES = ("uniform", "shallow", "deep")
"""The rules whose policies every search scores too."""


class FixedRule(Agent):
    """A keep ratio that falls or rises linearly over depth, shifted as a whole until the budget is met.

    The shift is bisected for the largest network within the budget, ratios are cut off at the smallest allowed count
    and at 1, and what is left of the budget is handed out by the projector.
    """

    needs_budget = True
    one_policy = True
    slope: ClassVar[float] = 0.0
    """Keep ratio of the last decision minus that of the first, before ratios are cut off."""

    def ask(self, episode: int) -> Counts | None:
        """Return the rule's policy for episode 0, then None."""
        return self.policy() if episode == 0 else None

    def ready(self, episode: int, told: int) -> bool:
        """Return True: no score matters."""
        return True

    def policy(self) -> Counts:
        """Return the rule's policy."""
        decisions = len(self.problem.decisions)
        line = self.slope * (np.linspace(0.0, 1.0, decisions) - 0.5)
        low, high = -1.0, 2.0  # cuts every ratio off at its smallest, at its largest
        for _ in range(40):
            middle = (low + high) / 2
            if self.problem.projector.fits(self._round(line + middle)):
                low = middle
            else:
                high = middle
        return tuple(self.problem.projector.fill(self._round(line + low)))

    def _round(self, ratios: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Counts:
        """Return for each ratio the largest allowed count that does not exceed it."""
        return tuple(
            max((level for level in levels if level <= ratio * group.size), default=levels[0])
            for ratio, levels, group in zip(ratios, self.problem.levels, self.problem.decisions, strict=True)
        )


@agents.register("uniform")
class Uniform(FixedRule):
    """The same keep ratio everywhere."""


@agents.register("shallow")
class Shallow(FixedRule):
    """Prunes shallow layers aggressively: the first keeps 0.6 less than the last."""

    slope = 0.6


@agents.register("deep")
class Deep(FixedRule):
    """Prunes deep layers aggressively: the last keeps 0.6 less than the first."""

    slope = -0.6


def rule_policies(problem: ProblemLike) -> list[Counts]:
    """Return the policies of the three rules, each different one once."""
    return list(dict.fromkeys(rule(problem).policy() for rule in (Uniform, Shallow, Deep)))
