"""Agents where the size is not fixed: several budgets, and fronts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoprune.agents import STEPS, BudgetBisection, Counts, Front, Told, agent_for_budget
from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.evaluation import accuracy, smallest
from autoprune.testing import ToyProblem

PLACE = Path("nowhere")


def play(problem: ToyProblem, name: str, episodes: int, history: int = 0) -> list[Told]:
    """Let an agent play; after ``history`` episodes a new one takes over."""
    told: list[Told] = []
    agent = agent_for_budget(name, problem, episodes=episodes)
    for number in range(episodes):
        if number == history:
            agent = agent_for_budget(name, problem, episodes=episodes)
            agent.restore(PLACE, told)
        counts = agent.ask(number)
        if counts is None:
            break
        assert agent.ask(number) == counts
        score = problem.score(counts)
        agent.tell(number, counts, score)
        told.append((number, counts, score))
    return told


def toy(budget: Budget) -> ToyProblem:
    return ToyProblem(decisions=4, steps=8, reward=smallest if budget.max_drop is not None else accuracy).at(budget)


@pytest.mark.parametrize("name", ["uniform", "shallow", "deep"])
def test_a_bisection_finds_the_smallest_of_its_agent_within_the_drop(name: str) -> None:
    problem = toy(Budget(max_drop=5.0))
    told = play(problem, name, 60)
    within = [counts for _, counts, score in told if score.accuracy >= problem.dense.accuracy - 0.05]
    best = min(problem.cost.macs(counts) for counts in within)
    # The same agent at budgets as close together as the bisection's last ones: none that is smaller is within.
    shares = np.linspace(0.02, 1.0, 200)
    finest = []
    for share in shares:
        at = ToyProblem(decisions=4, steps=8).at(Budget(float(share)))
        if at.projector.fits([levels[0] for levels in at.levels]):
            told_at = play(at, name, 60 - STEPS + 1)
            counts = told_at[-1][1]
            if at.score(counts).accuracy >= at.dense.accuracy - 0.05:
                finest.append(problem.cost.macs(counts))
    assert best <= min(finest) + problem.cost.dense_macs / 2**STEPS + problem.cost.dense_macs / 200


def test_a_bisection_probes_once_and_makes_one_policy_a_budget() -> None:
    told = play(toy(Budget(max_drop=5.0)), "sensitivity", 60)
    sizes = [levels[-1] for levels in toy(Budget(0.5)).levels]
    probes = [counts for _, counts, _ in told if sum(a != b for a, b in zip(counts, sizes, strict=True)) == 1]
    assert len(told) - len(probes) <= STEPS
    assert len(set(probes)) == len(probes)
    assert len(told) <= 60


@pytest.mark.parametrize("budget", [Budget(max_drop=5.0), Budget(minimize="macs")], ids=["drop", "front"])
@pytest.mark.parametrize("name", ["uniform", "sensitivity", "tpe", "random"])
def test_who_takes_over_goes_on_alike(name: str, budget: Budget) -> None:
    problem = toy(budget)
    assert play(problem, name, 25) == play(problem, name, 25, history=13)


def test_a_fronts_policies_spread_and_beat_random_ones() -> None:
    problem = ToyProblem(decisions=8, steps=8).at(Budget(minimize="macs"))

    def dominated_area(counts: list[Counts]) -> float:
        points = sorted((problem.cost.macs(c) / problem.cost.dense_macs, -problem.score(c).accuracy) for c in counts)
        total, right = 0.0, 1.0
        for share, _ in reversed(points):
            total += (right - share) * max(-lost for other, lost in points if other <= share)
            right = share
        return total

    areas = {name: dominated_area([counts for _, counts, _ in play(problem, name, 120)]) for name in ("tpe", "random")}
    assert areas["tpe"] > areas["random"]


def test_slips_are_refused() -> None:
    problem = ToyProblem(decisions=3)
    with pytest.raises(UsageError, match="--max-drop or --pareto"):
        BudgetBisection(problem, "uniform")
    with pytest.raises(UsageError, match="--pareto"):
        Front(problem)
    goal = problem.at(Budget(minimize="macs"))
    with pytest.raises(UsageError, match="'nsga3'"):
        Front(goal, sampler="nsga3")
    with pytest.raises(UsageError, match="no option 'candidates'"):
        agent_for_budget("tpe", goal, options={"candidates": 3})
    with pytest.raises(UsageError, match="population"):
        agent_for_budget("tpe", goal, options={"population": 1})
