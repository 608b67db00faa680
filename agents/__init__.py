"""Agents: everything that turns a problem and a number of episodes into policies.

Every agent answers ``ask`` and is told the score by ``tell``. Another package adds its own with
``@agents.register("name")`` or under the entry-point group ``autoprune.agents``; ``autoprune.testing.AgentContract``
checks it.
"""

from __future__ import annotations

from autoprune.agents._agent_for_budget import agent_for_budget
from autoprune.agents._auto import Auto
from autoprune.agents._base import Agent, Counts, Told, agents
from autoprune.agents._budget_bisection import STEPS, BudgetBisection
from autoprune.agents._ddpg import AMC, DDPG, SAC, TD3
from autoprune.agents._ddpg_exploration import Exploration
from autoprune.agents._ddpg_learning import ActorCritic, RewardScale
from autoprune.agents._evolution import Evolution
from autoprune.agents._front import Front
from autoprune.agents._generations import CMAES, NSGA2
from autoprune.agents._gp import GP
from autoprune.agents._netadapt import NetAdapt
from autoprune.agents._random import Random, random_policy
from autoprune.agents._resolve import make_agent, resolve_agent
from autoprune.agents._rules import RULES, Deep, FixedRule, Shallow, Uniform, rule_policies
from autoprune.agents._sensitivity import Sensitivity
from autoprune.agents._tpe import TPE

__all__ = [
    "AMC",
    "CMAES",
    "DDPG",
    "GP",
    "NSGA2",
    "RULES",
    "SAC",
    "STEPS",
    "TD3",
    "TPE",
    "ActorCritic",
    "Agent",
    "Auto",
    "BudgetBisection",
    "Counts",
    "Deep",
    "Evolution",
    "Exploration",
    "FixedRule",
    "Front",
    "NetAdapt",
    "Random",
    "RewardScale",
    "Sensitivity",
    "Shallow",
    "Told",
    "Uniform",
    "agent_for_budget",
    "agents",
    "make_agent",
    "random_policy",
    "resolve_agent",
    "rule_policies",
]
