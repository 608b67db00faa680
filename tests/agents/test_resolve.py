"""From names to agents, and what is said about bad ones."""

import pytest

from autoprune.agents import Agent, Random, agents, make_agent, resolve_agent
from autoprune.errors import UsageError
from autoprune.testing import ToyProblem


class Mine(Agent):
    def ask(self, episode):
        return None


def test_built_in_names():
    assert set(agents.names()) >= {"ddpg", "deep", "random", "sensitivity", "shallow", "tpe", "uniform"}


def test_a_name_a_path_and_a_class_are_agents():
    assert resolve_agent("random") is Random
    assert resolve_agent("autoprune.agents:Random") is Random
    assert resolve_agent(Mine) is Mine
    assert isinstance(make_agent(Mine, ToyProblem(2), seed=1, episodes=3), Mine)


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'ddpg'"):
        resolve_agent("ddgp")


@pytest.mark.parametrize(
    "spec", ["math:pi", "math:nothing", "no_such_module:Agent", ":Agent", "math:", ".math:pi", int]
)
def test_what_is_no_agent_is_refused(spec):
    with pytest.raises(UsageError, match="agent"):
        resolve_agent(spec)


def test_unknown_options_and_impossible_numbers_are_refused():
    problem = ToyProblem(2)
    with pytest.raises(UsageError, match=r"no option 'startp'\. Did you mean 'startup'"):
        make_agent("tpe", problem, startp=3)
    with pytest.raises(UsageError, match="no option 'warmup'"):
        make_agent("uniform", problem, warmup=3)
    with pytest.raises(UsageError, match="episodes is 0"):
        make_agent("tpe", problem, episodes=0)
    with pytest.raises(UsageError, match="seed is -1"):
        make_agent("tpe", problem, seed=-1)
