"""Plug-ins that a configuration names, looked up before anything is loaded."""

from __future__ import annotations

from autoprune.agents import Agent, resolve_agent
from autoprune.decisions import CHANNELS, find
from autoprune.errors import UsageError
from autoprune.evaluation import DivergenceFn, RewardFn, check_divergence, check_reward, resolve_reward
from autoprune.runs import RunConfig
from autoprune.select import Selection, selections


def check_plugins(
    config: RunConfig,
    *,
    agent: str | type[Agent] | None = None,
    reward: str | RewardFn | None = None,
    divergence: str | DivergenceFn | None = None,
) -> None:
    """Look up every plug-in by name, so that a slip is reported before anything is loaded.

    Args:
        config: The configuration.
        agent: The agent itself, where its name in the configuration may lead nowhere.
        reward: The reward function itself, likewise.
        divergence: The divergence itself, likewise.

    Raises:
        UsageError: for an unknown name (with the nearest), or a reward that does not go with the budget.
    """
    for kind in config.decide:
        if kind != CHANNELS:
            find(kind)
    resolve_agent(config.agent if agent is None else agent)
    selection: object = selections.get(config.select)
    if not (isinstance(selection, type) and issubclass(selection, Selection)):
        raise UsageError(
            f"The selection '{config.select}' is not a subclass of autoprune.select.Selection; derive it from that."
        )
    if not callable(divergence):
        check_divergence(config.divergence)
    reward = config.reward if reward is None else reward
    resolve_reward(reward)
    check_reward(reward, config.budget)
