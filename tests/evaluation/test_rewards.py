"""Rewards against the paper's formulas, and what is said about bad ones."""

import math
from dataclasses import replace

import pytest
from scipy import stats

from autoprune.budget import Budget
from autoprune.errors import UsageError
from autoprune.evaluation import SIZE_TRADING, Score, call_reward, check_reward, resolve_reward, rewards

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
    assert resolve_reward("autoprune.evaluation:accuracy") is rewards.get("accuracy")


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


def test_latency_is_mnasnets_soft_constraint():
    fast, slow = (replace(SMALL, accuracy=0.75, costs={"latency": seconds}) for seconds in (0.005, 0.010))
    dense = replace(DENSE, costs={"latency": 0.020})
    reward = rewards.get("accuracy-latency")
    assert reward(slow, dense, Budget("latency=0.5", "at-most")) == pytest.approx(0.75)
    assert reward(fast, dense, Budget("latency=10ms", "at-most")) == pytest.approx(0.75 * 2**0.07)
    with pytest.raises(UsageError, match="--budget latency"):
        reward(slow, dense, EXACT)


def test_the_smallest_within_the_drop_is_worth_most_and_beyond_it_the_nearest():
    dense, budget = Score(0.9, 0.1, 1000, 100), Budget(max_drop=2.0)
    scores = [
        Score(0.95, 0.1, 100, 10),
        Score(0.89, 0.1, 200, 10),
        Score(0.90, 0.1, 900, 10),
        Score(0.87, 0.1, 100, 10),
        Score(0.889, 0.1, 100, 10, drop_se=0.03),
    ]
    values = [rewards.get("smallest")(score, dense, budget) for score in scores]
    assert values[:4] == pytest.approx([0.9, 0.8, 0.1, -0.01])
    assert values[4] == pytest.approx(-(0.011 + stats.norm.ppf(0.95) * 0.03 - 0.02))
    with pytest.raises(UsageError, match="--max-drop"):
        rewards.get("smallest")(scores[0], dense, EXACT)


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
