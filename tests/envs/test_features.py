"""The eleven features against values worked out by hand."""

import numpy as np
import pytest

from autoprune.envs import FEATURES, Features, to_action, to_ratio, trajectory
from autoprune.testing import ToyProblem


@pytest.fixture
def problem():
    return ToyProblem(3, seed=0)


def test_order_is_the_papers():
    assert FEATURES == ("t", "n", "c", "h", "w", "stride", "k", "flops", "reduced", "rest", "previous")


def test_features_by_hand(problem):
    sizes = [group.size for group in problem.decisions]
    sides = [16, 8, 4, 2]  # of the four layers' outputs
    macs = [9 * side**2 * a * b for side, a, b in zip(sides, [3, *sizes], [*sizes, 10], strict=True)]
    assert sum(macs) == problem.cost.dense_macs
    features = Features(problem)
    prefix = []
    for t, size in enumerate(sizes):
        seen = dict(zip(FEATURES, features.observe(prefix).tolist(), strict=True))
        inputs = [16, 16, 8][t]
        left = [
            9 * side**2 * a * b
            for side, a, b in zip(sides, [3, *prefix, *sizes[t:]], [*prefix, *sizes[t:], 10], strict=True)
        ]
        expected = {
            "t": t / 2,
            "n": size / max(sizes),
            "c": [3, *sizes][t] / max(3, sizes[0], sizes[1]),
            "h": inputs / 16,
            "w": inputs / 16,
            "stride": 1.0,
            "k": 1.0,
            "flops": (macs[t] + macs[t + 1]) / sum(macs),
            "reduced": 1 - sum(left) / sum(macs),
            "rest": sum(macs[t + 2 :]) / sum(macs),
            "previous": prefix[-1] / sizes[t - 1] if t else 1.0,
        }
        assert seen == pytest.approx(expected, abs=1e-6)
        prefix.append(size // 2)


def test_all_features_lie_in_the_unit_interval():
    rng = np.random.default_rng(0)
    for seed in range(5):
        problem = ToyProblem(seed=seed)
        for _ in range(20):
            counts = [int(rng.choice(levels)) for levels in problem.levels]
            seen = trajectory(problem, counts).observations
            assert seen.shape == (7, 11)
            assert seen.dtype == np.float32
            assert seen.min() >= 0
            assert seen.max() <= 1


def test_a_trajectory_is_what_the_walk_saw(problem):
    counts = problem.projector.project([0.3, 0.9, 0.6])
    observations, actions = trajectory(problem, counts)
    features = Features(problem)
    for step in range(4):
        np.testing.assert_array_equal(observations[step], features.observe(counts[:step]))
    ratios = [count / group.size for count, group in zip(counts, problem.decisions, strict=True)]
    np.testing.assert_allclose([to_ratio(action) for action in actions[:, 0]], ratios, atol=1e-7)


@pytest.mark.parametrize(("action", "ratio"), [(-1.0, 0.0), (0.0, 0.5), (1.0, 1.0), (-3.0, 0.0), (2.0, 1.0)])
def test_actions_are_keep_ratios_on_another_scale(action, ratio):
    assert to_ratio(action) == ratio
    assert to_action(ratio) == max(-1.0, min(1.0, action))
