"""From a name to a player."""

from __future__ import annotations

import inspect

from autoprune.agents._base import Agent, agents
from autoprune.envs import ProblemLike
from autoprune.errors import UsageError
from autoprune.registry import import_object, nearest


def resolve_agent(agent: str | type[Agent]) -> type[Agent]:
    """Return the agent class for a registered name, ``package.module:Class`` or a class (returned as it is).

    Raises:
        UsageError: for an unknown name, something that cannot be imported or that is not an agent class.
    """
    found: object = agent
    if isinstance(agent, str):
        found = import_object(agent, "agent") if ":" in agent else agents.get(agent)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UsageError(f"The agent {agent!r} is not a subclass of autoprune.agents.Agent; derive it from that class.")
    return found


def make_agent(
    agent: str | type[Agent], problem: ProblemLike, *, seed: int = 0, episodes: int = 100, **options: object
) -> Agent:
    """Return a new agent for a problem.

    Args:
        agent: A registered name, ``package.module:Class`` or a class.
        problem: What is pruned.
        seed: Where all its random numbers come from.
        episodes: How many policies will be scored at most.
        **options: The agent's own keywords.

    Raises:
        UsageError: for an unknown agent or option, or a value out of range.
    """
    cls = resolve_agent(agent)
    if episodes < 1:
        raise UsageError(f"The number of episodes is {episodes}, but a search needs at least 1.")
    if seed < 0:
        raise UsageError(f"The seed is {seed}, but it must be 0 or more.")
    parameters = inspect.signature(cls).parameters.values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
        known = [name for name in known if name not in ("seed", "episodes")]
        for name in options:
            if name not in known:
                hint = nearest(name, known) or f" It knows: {', '.join(known) or 'none'}."
                raise UsageError(f"The agent '{agent}' has no option '{name}'.{hint}")
    return cls(problem, seed=seed, episodes=episodes, **options)
