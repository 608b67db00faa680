"""From names to agents, and what is said about bad ones."""

import pytest

from autoprune.agents import AMC, DDPG, Agent, Random, agents, make_agent, resolve_agent
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


class Handed(DDPG):
    """An agent of the user's own that hands on what it does not know."""

    def __init__(self, problem, *, mine=1, **others):
        super().__init__(problem, **others)
        self.mine = mine


def test_options_of_parts_are_options_of_the_agent():
    problem, given = ToyProblem(2), {"sigma": 0.3, "hidden": 8, "scaled": False, "together": True, "updates": 2}
    made = make_agent("amc", problem, seed=1, episodes=12, **given)
    assert isinstance(made, AMC)
    assert {name: made.options[name] for name in given} == given
    assert made.options["warmup"] == 3
    assert make_agent(Handed, problem, **given, mine=4).mine == 4
    assert make_agent(Handed, problem, **given).options["sigma"] == 0.3
    assert "hidden" in make_agent("sac", problem, hidden=8).options
    for agent in ("ddpg", Handed):
        with pytest.raises(UsageError, match=r"takes for 'warmup' a value of type int \| null"):
            make_agent(agent, problem, warmup="3")
        with pytest.raises(UsageError, match="'warmup' is -1, but the ddpg agent needs a whole number of at least 0"):
            make_agent(agent, problem, warmup=-1)
    for wrong, hint in (("sigmas", "Did you mean 'sigma'"), ("exploration", "It knows: .*sigma")):
        with pytest.raises(UsageError, match=f"no option '{wrong}'.*{hint}"):
            make_agent("ddpg", problem, **{wrong: 0.3})
