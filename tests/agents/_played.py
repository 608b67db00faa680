"""An agent alone with a problem."""

from __future__ import annotations

from autoprune.agents import Agent, Counts
from autoprune.envs import ProblemLike


def played(agent: Agent, problem: ProblemLike, episodes: int) -> list[Counts]:
    """Score what an agent proposes until it ends, or for so many episodes; returns the policies."""
    policies = []
    for episode in range(episodes):
        counts = agent.ask(episode)
        if counts is None:
            break
        policies.append(counts)
        agent.tell(episode, counts, problem.score(counts))
    return policies
