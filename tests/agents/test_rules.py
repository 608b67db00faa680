"""Fixed rules and sensitivity against brute force."""

import numpy as np
import pytest

from autoprune.agents import make_agent
from autoprune.testing import ToyProblem

from ._played import played


def policy(name, problem):
    agent = make_agent(name, problem, episodes=5)
    assert agent.ask(1) is None
    return agent.ask(0)


def ratios(counts, problem):
    return np.array([count / group.size for count, group in zip(counts, problem.decisions, strict=True)])


@pytest.mark.parametrize("budget", [0.2, 0.5, 0.8])
def test_uniform_is_the_largest_equal_ratio_and_one_level_of_filling(budget):
    problem = ToyProblem(budget=budget)
    kept = ratios(policy("uniform", problem), problem)
    steps = [step / 8 for step in range(1, 9)]
    equal = {step: [round(step * group.size) for group in problem.decisions] for step in steps}
    largest = max(step for step in steps if problem.projector.fits(equal[step]))
    assert (kept >= largest).all()
    assert (kept == largest).any()


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.7])
def test_shallow_rises_and_deep_falls_along_a_line_of_0_6(budget):
    problem = ToyProblem(budget=budget)
    problem.projector._exact = False  # nothing filled in afterwards
    shallow, deep = (ratios(policy(name, problem), problem) for name in ("shallow", "deep"))
    assert (np.diff(shallow) >= 0).all()
    assert (np.diff(deep) <= 0).all()
    for line in (shallow, deep[::-1]):
        within = np.flatnonzero((line > 1 / 8) & (line < 1))
        expected = 0.6 * (within[-1] - within[0]) / 5
        assert line[within[-1]] - line[within[0]] == pytest.approx(expected, abs=1 / 8)


@pytest.mark.parametrize("name", ["uniform", "shallow", "deep"])
def test_the_whole_network_where_the_budget_allows_it(name):
    problem = ToyProblem(budget=1.0)
    assert policy(name, problem) == tuple(group.size for group in problem.decisions)


def play(problem, episodes):
    return played(make_agent("sensitivity", problem, episodes=episodes), problem, episodes + 3)


@pytest.mark.parametrize("episodes", [1, 2, 5, 7, 13, 30, 200])
def test_sensitivity_uses_at_most_its_episodes_and_ends_on_budget(episodes):
    problem = ToyProblem()
    policies = play(problem, episodes)
    assert len(policies) <= episodes
    assert problem.projector.fits(policies[-1])
    whole = tuple(group.size for group in problem.decisions)
    for probe in policies[:-1]:
        assert sum(a != b for a, b in zip(probe, whole, strict=True)) == 1


def test_sensitivity_allows_every_group_the_same_loss():
    """With a probe at every level the curves are exact: so is the common loss, which brute force finds too."""
    problem = ToyProblem()
    problem.projector._exact = False  # nothing filled in afterwards
    counts = play(problem, 200)[-1]
    whole = [group.size for group in problem.decisions]

    def increase(index, level):
        return problem.score([*whole[:index], level, *whole[index + 1 :]]).loss - problem.dense.loss

    curves = [[(level, increase(index, level)) for level in levels] for index, levels in enumerate(problem.levels)]
    candidates = []
    for limit in sorted({value for curve in curves for _, value in curve}):
        allowed = tuple(min(level for level, value in curve if value <= limit + 1e-12) for curve in curves)
        if problem.projector.fits(allowed):
            candidates.append(allowed)
    assert counts == candidates[0]


def test_sensitivity_prunes_most_what_matters_least():
    problem = ToyProblem()
    kept = ratios(play(problem, 50)[-1], problem)
    assert kept[problem._weights.argmin()] < kept[problem._weights.argmax()]
    uniform = policy("uniform", problem)
    assert problem.score(play(problem, 50)[-1]).accuracy > problem.score(uniform).accuracy
