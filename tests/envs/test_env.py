"""The game as a Gymnasium environment, on a problem whose optimum is known."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import autoprune.envs as envs
from autoprune.testing import ToyProblem


@pytest.fixture
def problem() -> ToyProblem:
    return ToyProblem()


def play(env, actions):
    observation, _ = env.reset(seed=0)
    return observation, [env.step(np.array([action], dtype=np.float32)) for action in actions]


def test_both_checkers_are_silent(problem):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = gymnasium.make("autoprune/ChannelPruning-v0", problem=problem)
        gymnasium_check_env(made.unwrapped)
        sb3_check_env(made.unwrapped)
        sb3_check_env(envs.ChannelPruningEnv(problem))


def test_one_step_per_decision_and_reward_only_at_the_end(problem):
    _, steps = play(envs.ChannelPruningEnv(problem), [0.0] * 6)
    assert [terminated for _, _, terminated, _, _ in steps] == [False] * 5 + [True]
    assert not any(truncated for *_, truncated, _ in steps)
    assert [reward for _, reward, *_ in steps[:-1]] == [0.0] * 5
    info = steps[-1][-1]
    score = problem.score(info["counts"])
    assert steps[-1][1] == score.reward == score.accuracy - 1
    assert info["score"] == score.to_dict()
    assert info["ratios"] == [
        count / group.size for count, group in zip(info["counts"], problem.decisions, strict=True)
    ]


def test_macs_in_info_are_those_of_the_policy_so_far(problem):
    env = envs.ChannelPruningEnv(problem)
    _, info = env.reset()
    assert info == {"macs": problem.cost.dense_macs}
    _, steps = play(env, [-0.5, 0.3, 0.1])
    prefix = []
    for group, (_, _, _, _, info) in zip(problem.decisions, steps, strict=False):
        prefix.append(round(info["ratio"] * group.size))
        whole = [other.size for other in problem.decisions[len(prefix) :]]
        assert info["macs"] == problem.cost.macs([*prefix, *whole])
        assert prefix[-1] in problem.levels[len(prefix) - 1]
    assert steps[0][-1]["requested"] == 0.25


@pytest.mark.parametrize("action", [-1.0, -0.3, 0.4, 1.0])
def test_budget_is_met_from_both_sides(problem, action):
    _, steps = play(envs.ChannelPruningEnv(problem), [action] * 6)
    counts = steps[-1][-1]["counts"]
    assert problem.projector.fits(counts)
    for index, levels in enumerate(problem.levels):
        above = [level for level in levels if level > counts[index]]
        if above:
            raised = [*counts[:index], above[0], *counts[index + 1 :]]
            assert not problem.projector.fits(raised)


def test_at_most_may_stay_below_the_budget():
    problem = ToyProblem(mode="at-most")
    _, steps = play(envs.ChannelPruningEnv(problem), [-1.0] * 6)
    assert steps[-1][-1]["counts"] == [levels[0] for levels in problem.levels]


def test_stepping_on_after_the_end_is_refused(problem):
    env = envs.ChannelPruningEnv(problem)
    play(env, [0.0] * 6)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(1, dtype=np.float32))


def test_walk_and_environment_play_the_same_game(problem):
    env, walk = envs.ChannelPruningEnv(problem), envs.Walk(problem)
    observation, _ = env.reset()
    for action in (0.9, -0.9, 0.2, 0.0, 0.7, -0.4):
        np.testing.assert_array_equal(observation, walk.observe())
        low, high = walk.bounds()
        applied = walk.step(envs.to_ratio(action))
        assert low <= applied <= high
        observation, _, _, _, info = env.step(np.array([action], dtype=np.float32))
        assert info["ratio"] == applied
    assert walk.done()
    assert list(walk.finish()) == info["counts"]


def test_made_without_a_problem_it_is_the_digits_network():
    env = gymnasium.make("autoprune/ChannelPruning-v0").unwrapped
    dense = env.reset(seed=0)[1]["macs"]
    terminated, steps = False, 0
    while not terminated:
        _, reward, terminated, _, info = env.step(np.zeros(1, dtype=np.float32))
        steps += 1
    assert steps == len(env.problem.decisions)
    assert info["macs"] <= 0.5 * dense
    assert -0.2 < reward <= 0
