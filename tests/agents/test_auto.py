"""The built-in searcher against what can be computed otherwise: brute force, conditioned Gaussians, a known loss."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from autoprune.agents import Auto, make_agent
from autoprune.agents._allocate import allocate, improve
from autoprune.agents._auto import growth
from autoprune.agents._surrogate import LENGTH_SCALE, NOISE, Surrogate
from autoprune.errors import UsageError
from autoprune.evaluation import Score
from autoprune.testing import ToyProblem


def play(problem, episodes, **options):
    agent = make_agent("auto", problem, episodes=episodes, **options)
    told = []
    for episode in range(episodes):
        counts = agent.ask(episode)
        told.append((counts, problem.score(counts)))
        agent.tell(episode, *told[-1])
    return told


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_optimum_that_brute_force_finds(seed):
    problem = ToyProblem(5, seed=seed)
    scores = [score.accuracy for _, score in play(problem, 12)]
    assert max(scores) == pytest.approx(problem.optimum()[1], abs=2e-4)


def test_no_policy_twice_while_there_are_others():
    told = play(ToyProblem(6), 20)
    assert len({counts for counts, _ in told}) == 20


@pytest.mark.parametrize("seed", range(5))
def test_allocations_are_those_of_brute_force(seed):
    """A chain, where the costs of neighbours multiply; any falling curves."""
    problem = ToyProblem(4, seed=seed, budget=0.4)
    rng = np.random.default_rng(seed)
    tables = [np.sort(rng.exponential(1.0, len(levels)))[::-1] for levels in problem.levels]
    place = [{level: number for number, level in enumerate(levels)} for levels in problem.levels]

    def total(counts):
        return np.array(
            [sum(t[p[int(k)]] for t, p, k in zip(tables, place, row, strict=True)) for row in np.asarray(counts)]
        )

    found = improve(total, allocate(tables, problem.levels, problem.projector), problem.levels, problem.projector)
    grid = np.array(list(product(*problem.levels)))
    values = total(grid)
    values[~problem.projector.fits_many(grid)] = np.inf
    assert problem.projector.fits(found)
    assert total([found])[0] <= np.sort(values)[:4].max() + 1e-12  # an exchange of three groups is not tried
    start = total([allocate(tables, problem.levels, problem.projector)])[0]
    assert total([found])[0] <= start


def test_the_surrogate_is_the_conditioned_gaussian():
    """Against the joint covariance of all policies, written out."""
    rng = np.random.default_rng(0)
    curves = [np.linspace(1.0, 0.0, 9) ** power for power in (1, 2, 3)]
    surrogate = Surrogate(curves, [8, 8, 8])
    told, new = rng.integers(1, 9, (12, 3)), rng.integers(1, 9, (5, 3))
    surrogate.fit(told, surrogate.errors(told) @ [0.3, 0.6, 0.9] + rng.normal(0, 0.01, 12))
    both = np.concatenate([told, new])
    x, z = surrogate.errors(both), both / 8
    apart = ((z[:, None] - z[None]) ** 2).sum(axis=2)
    joint = x @ np.diag(surrogate._spread) @ x.T + surrogate._residual**2 * np.exp(-0.5 * apart / (3 * LENGTH_SCALE**2))
    seen = joint[:12, :12] + NOISE**2 * np.eye(12)
    conditioned = joint[12:, 12:] - joint[12:, :12] @ np.linalg.solve(seen, joint[:12, 12:])
    _, deviation = surrogate.predict(new)
    np.testing.assert_allclose(deviation, surrogate._scale * np.sqrt(np.diag(conditioned)), rtol=1e-6)


def test_the_surrogate_learns_the_weights_of_a_sum():
    rng = np.random.default_rng(1)
    curves = [np.linspace(1.0, 0.0, 17) ** 2] * 4
    true = np.array([0.9, 0.1, 0.5, 0.2])
    told = rng.integers(2, 17, (20, 4))
    surrogate = Surrogate(curves, [16] * 4)
    surrogate.fit(told, surrogate.errors(told) @ true)
    np.testing.assert_allclose(surrogate.weights, true, atol=0.05)
    new = rng.integers(2, 17, (50, 4))
    mean, deviation = surrogate.predict(new)
    np.testing.assert_allclose(mean, surrogate.errors(new) @ true, atol=0.05)
    assert (surrogate.weights >= 0).all()
    assert (deviation < 0.2).all()


def test_statistics_say_where_to_begin():
    """A group whose channels the statistics call worthless gives them up in the very first policy."""

    class Knowing(ToyProblem):
        def errors(self):
            shares = [1 - np.arange(group.size + 1) / group.size for group in self.decisions]
            return [share**2 * (0.001 if place == 2 else 1.0) for place, share in enumerate(shares)]

    problem = Knowing(5)
    first = make_agent("auto", problem).ask(0)
    assert first[2] == problem.levels[2][0]
    assert make_agent("auto", problem, statistics=False).ask(0) == make_agent("auto", ToyProblem(5)).ask(0)


def test_growth_of_losses_and_of_errors_where_no_loss_is_known():
    problem = ToyProblem(3)
    score = Score(0.5, 3 * problem.dense.loss, 1, 1)
    assert growth(problem, score) == pytest.approx(math.log(3))
    assert math.isfinite(growth(problem, Score(0.1, math.inf, 1, 1)))
    problem.dense = Score(0.9, math.nan, 1, 1)
    assert growth(problem, Score(0.6, math.nan, 1, 1)) == pytest.approx(math.log(4))


def test_the_distance_is_what_becomes_small_where_it_is_known():
    """The loss misleads, and scores without a distance (of an older run) are left out."""

    class Measured(ToyProblem):
        def score(self, counts):
            score = super().score(counts)
            return replace(score, distance=0.95 - score.accuracy, loss=1.0 - score.loss)

    problem = Measured(5, seed=1)
    agent = make_agent("auto", problem, episodes=14)
    told = []
    for episode in range(14):
        counts = agent.ask(episode)
        score = problem.score(counts)
        agent.tell(episode, counts, replace(score, distance=math.nan) if episode == 1 else score)
        told.append(score.accuracy)
    assert max(told) == pytest.approx(problem.optimum()[1], abs=2e-4)


@pytest.mark.parametrize("options", [{"explore": -1}, {"explore": "much"}, {"statistics": 1}, {"probe": "no"}])
def test_wrong_options_are_told(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Auto(ToyProblem(3), **options)


class Seen(ToyProblem):
    """A toy whose weights can be seen: the loss is the sum of what is seen."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.looked = 0

    def errors(self):
        return [(1 - np.arange(group.size + 1) / group.size) ** 2 for group in self.decisions]

    def sensitivities(self):
        self.looked += 1
        return 3.0 * self._weights, 12.5


@pytest.mark.parametrize("seed", range(4))
def test_where_weights_are_seen_the_first_policy_is_nearly_the_optimum(seed):
    problem = Seen(5, seed=seed)
    agent = make_agent("auto", problem)
    first = problem.score(agent.ask(0)).accuracy
    assert first == pytest.approx(problem.optimum()[1], abs=2e-3)  # no weight is believed to be nearly nothing
    assert agent.images == 12.5
    blind = make_agent("auto", problem, probe=False)
    assert problem.score(blind.ask(0)).accuracy <= first
    assert blind.images == 0


def test_nothing_is_looked_at_before_a_policy_is_asked_for():
    problem = Seen(5)
    agent = make_agent("auto", problem)
    assert problem.looked == 0
    agent.ask(0)
    agent.ask(0)
    assert problem.looked == 1
