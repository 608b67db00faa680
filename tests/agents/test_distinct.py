"""No policy is paid for twice: agents that can propose another one do, and end when there is none."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from autoprune.agents import Counts, make_agent
from autoprune.agents._history import MOST_FITTED, informative
from autoprune.testing import ToyProblem

from ._played import played

OPTIONS: dict[str, dict[str, object]] = {
    "tpe": {"startup": 4},
    "gp": {"startup": 3},
    "random": {},
    "evolution": {},
    "auto": {},
}


def proposed(name: str, problem: ToyProblem, episodes: int) -> list[Counts]:
    return played(make_agent(name, problem, seed=1, episodes=episodes, **OPTIONS[name]), problem, episodes)


def all_full(problem: ToyProblem) -> set[Counts]:
    """Every policy that uses the budget up, by trying all."""

    def grows(counts: Counts) -> bool:
        above = ((i, min((k for k in some if k > counts[i]), default=None)) for i, some in enumerate(problem.levels))
        raised = (tuple(k if i == j else c for j, c in enumerate(counts)) for i, k in above if k is not None)
        return any(problem.projector.fits(other) for other in raised)

    return {k for k in product(*problem.levels) if problem.projector.fits(k) and not grows(k)}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_policy_is_proposed_once_and_the_search_ends(name: str) -> None:
    problem = ToyProblem(3, steps=4)
    there = all_full(problem)
    policies = proposed(name, problem, 60)
    assert len(set(policies)) == len(policies) < 60
    assert set(policies) <= there
    assert len(policies) >= 0.6 * len(there)


@pytest.mark.parametrize("name", ["tpe", "auto"])
def test_a_long_search_repeats_nothing(name: str) -> None:
    policies = proposed(name, ToyProblem(5, steps=16), 40)
    assert len(set(policies)) == len(policies) == 40


def test_of_a_long_history_the_better_half_and_an_even_spread_is_fitted() -> None:
    values = [float((7 * place) % 1009) for place in range(1009)]  # a permutation
    found = informative(values, 100)
    assert len(set(found)) == len(found) <= 100
    assert found == sorted(found)
    assert {place for place in range(1009) if values[place] < 50} <= set(found)
    others = [place for place in found if values[place] >= 50]
    assert min(others) < 40
    assert max(others) > 960
    assert max(b - a for a, b in pairwise(others)) < 60
    assert informative(values[:MOST_FITTED]) == list(range(MOST_FITTED))
