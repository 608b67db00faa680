"""What every reward function must do, as tests to inherit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import ClassVar

from autoprune.budget import Budget
from autoprune.evaluation import RewardFn, Score, call_reward, resolve_reward


class RewardContract:
    """Tests of one reward function; subclass it in a file pytest collects, and set ``reward``.

    ::

        class TestMine(autoprune.testing.RewardContract):
            reward = "my_package.rewards:my_reward"

    Attributes:
        reward: A registered name or ``package.module:function``. To test a function itself, return it from
            ``make_reward`` instead.
        budget: The budget the reward is asked for.
        follows_accuracy: Whether more accuracy at the same size must never be worth less.
    """

    reward: ClassVar[str]
    budget: ClassVar[Budget] = Budget(0.5, "at-most")
    follows_accuracy: ClassVar[bool] = True

    dense = Score(accuracy=0.95, loss=0.2, macs=1_000_000, params=10_000, costs={"latency": 0.011})

    def make_reward(self) -> RewardFn:
        """Return the reward function."""
        return resolve_reward(self.reward)

    def scores(self) -> list[Score]:
        """Return scores from the best possible to the worst."""
        sizes = ((1_000_000, 10_000), (500_000, 5_000), (1, 1))
        return [
            Score(accuracy, loss, macs, params, seconds=1.0, cost=0.5, costs={"latency": 1e-3 + 1e-8 * macs})
            for (accuracy, loss), (macs, params) in product(((1.0, 0.0), (0.95, 0.2), (0.1, 2.3), (0.0, 50.0)), sizes)
        ]

    def value(self, score: Score) -> float:
        """Return the reward of a score."""
        return call_reward(self.make_reward(), score, self.dense, self.budget)

    def test_is_a_finite_number_for_any_score(self) -> None:
        """``call_reward`` refuses anything else with the function's name."""
        assert all(isinstance(self.value(score), float) for score in self.scores())

    def test_same_score_same_reward(self) -> None:
        """A reward that is random cannot be searched for again."""
        assert [self.value(score) for score in self.scores()] == [self.value(score) for score in self.scores()]

    def test_does_not_depend_on_how_long_the_score_took(self) -> None:
        """Else a resumed run would differ from an uninterrupted one."""
        for score in self.scores():
            assert self.value(score) == self.value(replace(score, seconds=99.0, cost=99.0))

    def test_more_accuracy_is_not_worth_less(self) -> None:
        """At the same size."""
        if self.follows_accuracy:
            for score in self.scores():
                worse = replace(score, accuracy=score.accuracy / 2, loss=score.loss + 1.0)
                assert self.value(worse) <= self.value(score)
