"""Rewards against the paper's formulas, and what is said about bad ones."""

import math

import pytest

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.rewards import SIZE_TRADING, call_reward, check_reward, resolve_reward, rewards
from autoprune.score import Score

DENSE = Score(accuracy=0.95, loss=0.2, macs=1000, params=100)
SMALL = Score(accuracy=0.75, loss=0.9, macs=500, params=60)
EXACT = Budget(0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", -0.25),
        ("accuracy-flops", -0.25 * 6.214608098422191),  # log(500)
        ("accuracy-params", -0.25 * 4.0943445622221),  # log(60)
    ],
)
def test_built_in_rewards_are_the_papers(name, expected):
    assert call_reward(resolve_reward(name), SMALL, DENSE, EXACT) == pytest.approx(expected, rel=1e-12)


def test_names():
    assert {"accuracy", "accuracy-flops", "accuracy-params"} <= set(rewards.names())
    assert set(rewards.names()) >= SIZE_TRADING


def test_a_callable_and_an_import_path_are_rewards():
    def mine(score, dense, budget):
        return score.accuracy / dense.accuracy

    assert resolve_reward(mine) is mine
    assert resolve_reward("autoprune.rewards:accuracy") is rewards.get("accuracy")


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'accuracy-flops'"):
        resolve_reward("acuracy-flop")


@pytest.mark.parametrize("spec", ["no_such_module:fn", "math:no_such_name", "math:pi"])
def test_what_cannot_be_imported_or_called_is_refused(spec):
    with pytest.raises(UsageError, match="reward"):
        resolve_reward(spec)


@pytest.mark.parametrize("value", [math.nan, math.inf, "abc", None])
def test_a_reward_that_is_no_finite_number_is_refused(value):
    def broken(score, dense, budget):
        return value

    with pytest.raises(UsageError, match="'broken'"):
        call_reward(broken, SMALL, DENSE, EXACT)


def test_a_reward_that_raises_is_named():
    def broken(score, dense, budget):
        return 1 / 0

    with pytest.raises(UsageError, match="'broken' raised ZeroDivisionError"):
        call_reward(broken, SMALL, DENSE, EXACT)


@pytest.mark.parametrize("name", sorted(SIZE_TRADING))
def test_rewards_that_trade_size_need_a_free_size(name):
    with pytest.raises(UsageError, match="at-most"):
        check_reward(name, EXACT)
    with pytest.raises(UsageError, match="at-most"):
        check_reward(rewards.get(name), EXACT)
    check_reward(name, Budget(0.5, "at-most"))
    check_reward(name, None)
    check_reward("accuracy", EXACT)
