"""A fixed-budget agent at several budgets: for the smallest network within a drop of accuracy, or for a whole front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autoprune.agents._base import Agent, Counts, Told
from autoprune.agents._resolve import make_agent, resolve_agent
from autoprune.budget import Budget, Limit
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.evaluation import Score

STEPS = 8
"""Budgets that are tried: a bisection then knows the smallest share to 1/256 of its range."""


class BudgetBisection(Agent):
    """Lets an agent that works at a fixed budget propose policies at several.

    With ``budget.max_drop`` the budgets are bisected: a smaller one follows where a policy was within the drop, a larger one
    where none was. Without, they divide the range of what can be had evenly. An agent that makes one policy of what it has
    probed (`Agent.one_policy`) makes one for each budget; of others each budget gets a fresh one and an equal part of the
    episodes.

    Args:
        problem: What is pruned; its budget names the cost to make small (``minimize``).
        agent: The agent: a registered name, ``package.module:Class`` or a class.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most.
        options: The agent's own options.

    Raises:
        UsageError: for an unknown agent or option.
    """

    def __init__(
        self,
        problem: ProblemLike,
        agent: str | type[Agent],
        *,
        seed: int = 0,
        episodes: int = 100,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        if problem.budget.minimize is None:
            raise UsageError(
                "A search over budgets needs to know which cost to make small; give --max-drop or --pareto."
            )
        self._kind = problem.budget.minimize
        self._agent, self._options = agent, dict(options or {})
        whole = [group.size for group in problem.decisions]
        least = [levels[0] for levels in problem.levels]
        probe = problem.at(Budget([Limit(self._kind, 1.0)]))
        self._low, self._high = probe.projector.usage(least) / probe.projector.usage(whole), 1.0
        self._share = max(1, episodes // STEPS)
        self._one = resolve_agent(agent).one_policy
        self._at = 1.0
        self._step = -1
        self._asked = 0
        self._within = False
        self._inner: Agent | None = None
        self._next()

    @property
    def images(self) -> float:
        """What the agent of the last budget computes beside the scores: what it saw of the network is seen once for all."""
        return 0.0 if self._inner is None else self._inner.images

    def _next(self) -> None:
        """Go on to the next budget, after all policies of the last."""
        bisected = self.problem.budget.max_drop is not None
        if self._inner is not None and bisected:
            if self._within:
                self._high = self._at
            else:
                self._low = self._at
        self._step += 1
        middle = (self._low + self._high) / 2
        evenly = self._low + (1.0 - self._low) * (self._step + 1) / (STEPS + 1)
        self._at = min(middle if bisected else evenly, 1.0)
        self._within = False
        own = [limit for limit in self.problem.budget.limits if limit.kind != self._kind]
        problem = self.problem.at(Budget([Limit(self._kind, self._at), *own]))
        if self._one and self._inner is not None:
            self._inner.problem = problem
            self._asked = self._inner.probes
            return
        self._asked = 0
        episodes = max(1, self.episodes - STEPS + 1) if self._one else self._share
        self._inner = make_agent(self._agent, problem, seed=self.seed, episodes=episodes, **self._options)

    def ask(self, episode: int) -> Counts | None:
        """Return the policy that the agent proposes at this budget; None after the last budget."""
        while self._step < STEPS:
            assert self._inner is not None
            counts = self._inner.ask(self._asked) if self._one or self._asked < self._share else None
            if counts is not None:
                return counts
            self._next()
        return None

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Pass the score on, and see whether it is within the drop."""
        assert self._inner is not None
        self._inner.tell(self._asked, counts, score)
        if self._asked >= self._inner.probes and self.problem.projector.fits(counts):
            self._within |= score.within(self.problem.budget, self.problem.dense)
        self._asked += 1

    def restore(self, folder: Path, history: Iterable[Told]) -> None:
        """Become the agent that was told ``history``, by asking again for all of it."""
        for episode, counts, score in history:
            self.ask(episode)
            self.tell(episode, counts, score)
