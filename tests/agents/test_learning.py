"""At equal numbers of scored policies the learning agents beat random on problems with known optima."""

import numpy as np
import pytest

from autoprune.agents import make_agent
from autoprune.testing import ToyProblem

EPISODES = 60


def accuracies(name, seed, **options):
    problem = ToyProblem(seed=seed)
    agent = make_agent(name, problem, seed=1, episodes=EPISODES, **options)
    values = []
    for episode in range(EPISODES):
        counts = agent.ask(episode)
        score = problem.score(counts)
        agent.tell(episode, counts, score)
        values.append(score.accuracy)
    return np.array(values), problem.optimum()[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tpe_beats_random_and_reaches_the_optimum(seed):
    tpe, optimum = accuracies("tpe", seed)
    random, _ = accuracies("random", seed)
    assert tpe.mean() > random.mean() + 0.02
    assert optimum - tpe.max() < 0.25 * (optimum - np.mean(random))
    assert tpe.max() <= optimum + 1e-12


def test_ddpg_beats_random_and_its_own_warm_up():
    """On average over three problems; smaller networks than the default, for time."""
    played = [accuracies("ddpg", seed, hidden=64, updates=20) for seed in (0, 1, 4)]
    ddpg = np.array([values for values, _ in played])
    optimum = np.array([best for _, best in played])
    random = np.array([accuracies("random", seed)[0] for seed in (0, 1, 4)])
    assert ddpg.mean() > random.mean() + 0.005
    assert ddpg[:, -10:].mean() > random.mean() + 0.02
    assert ddpg[:, -10:].mean() > ddpg[:, :15].mean() + 0.02
    assert (ddpg.max(axis=1) <= optimum + 1e-12).all()
