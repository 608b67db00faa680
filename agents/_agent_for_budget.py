"""Which agent proposes policies for a name, depending on what the budget asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.agents._base import Agent
from autoprune.agents._budget_bisection import BudgetBisection
from autoprune.agents._front import SAMPLERS, Front
from autoprune.agents._resolve import make_agent, resolve_agent
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError


def agent_for_budget(
    agent: str | type[Agent],
    problem: ProblemLike,
    *,
    seed: int = 0,
    episodes: int = 100,
    options: Mapping[str, Any] | None = None,
) -> Agent:
    """Return what proposes policies for an agent's name.

    At a fixed budget it is the agent itself. Where a cost is to be made small (``budget.minimize``), agents that need a fixed
    budget get several, bisected or spread evenly (`BudgetBisection`), Optuna's samplers search for a front if there is no
    ``max_drop`` (`Front`), and the others are led by the reward alone.

    Args:
        agent: A registered name, ``package.module:Class`` or a class.
        problem: What is pruned.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most.
        options: The agent's own options.

    Raises:
        UsageError: for an unknown agent or option, or a value out of range.
    """
    given = dict(options or {})
    budget = problem.budget
    if budget.minimize is not None:
        if budget.max_drop is None and isinstance(agent, str) and agent in SAMPLERS:
            known = ("population", "rules")
            wrong = next((name for name in given if name not in known), None)
            if wrong is not None:
                raise UsageError(f"A front by '{agent}' has no option '{wrong}'. It knows: {', '.join(known)}.")
            return Front(problem, seed=seed, episodes=episodes, sampler=agent, **given)
        if resolve_agent(agent).needs_budget:
            return BudgetBisection(problem, agent, seed=seed, episodes=episodes, options=given)
    return make_agent(agent, problem, seed=seed, episodes=episodes, **given)
