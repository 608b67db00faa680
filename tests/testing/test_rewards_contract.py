"""The built-in rewards keep the contract that is shipped for plug-in authors, and broken ones do not."""

import itertools

import pytest

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.testing import RewardContract


class TestAccuracy(RewardContract):
    reward = "accuracy"


class TestFlops(RewardContract):
    reward = "accuracy-flops"


class TestParams(RewardContract):
    reward = "accuracy-params"


class TestLatency(RewardContract):
    reward = "accuracy-latency"
    budget = Budget("latency=0.5", "at-most")


class TestSmallest(RewardContract):
    reward = "smallest"
    budget = Budget(max_drop=5.0)


class TestOwn(RewardContract):
    def make_reward(self):
        return lambda score, dense, budget: score.accuracy - 0.1 * score.macs / dense.macs


def contract(fn):
    return type("Contract", (RewardContract,), {"make_reward": lambda self: fn})()


def test_broken_rewards_are_caught():
    with pytest.raises(UsageError):
        contract(lambda score, dense, budget: 1 / score.loss).test_is_a_finite_number_for_any_score()
    counter = itertools.count()
    with pytest.raises(AssertionError):
        contract(lambda score, dense, budget: next(counter)).test_same_score_same_reward()
    with pytest.raises(AssertionError):
        contract(lambda score, dense, budget: -score.cost).test_does_not_depend_on_how_long_the_score_took()
    with pytest.raises(AssertionError):
        contract(lambda score, dense, budget: -score.accuracy).test_more_accuracy_is_not_worth_less()
