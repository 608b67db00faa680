"""Reward functions: what a policy is worth to the searcher, ``fn(score, dense, budget) -> float``.

R_err, R_FLOPs and R_Param are those of He et al., "AMC: AutoML for Model Compression and Acceleration on Mobile Devices"
(ECCV 2018), section 3.4. A user's own is a function with the same signature, registered
with ``@rewards.register("name")``, installed under the entry-point group ``autoprune.rewards``, or named as
``package.module:function``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from autoprune.budget import QUANTILE, Budget
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation._score import Score
from autoprune.registry import Registry, import_object

RewardFn = Callable[[Score, Score, Budget], float]

rewards: Registry[RewardFn] = Registry("reward", "autoprune.rewards")

MOST_DIVERGENCE = 1e6
"""What a divergence counts as that is infinite or NaN: of a network whose outputs are."""

SIZE_TRADING = frozenset({"accuracy-flops", "accuracy-params", "accuracy-latency"})
"""Rewards that trade size against accuracy themselves: pointless where every policy has the same size."""


@rewards.register("accuracy")
def accuracy(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_err = -error, the reward for a search on a fixed budget; of another metric its value, less where it is worse.

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -(1.0 - score.accuracy) if score.metric.maximize else -score.accuracy


@rewards.register("divergence")
def divergence_reward(score: Score, dense: Score, budget: Budget) -> float:
    """Return minus the divergence of the outputs from the dense network's, for which no label is read.

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.

    Raises:
        UsageError: if the outputs are not known, as a function evaluates.
    """
    if math.isnan(dense.distance):
        raise UsageError(
            "The reward 'divergence' compares outputs with the dense network's, but here a function evaluates; give the search "
            "images instead, or the reward 'accuracy'."
        )
    return -score.distance if math.isfinite(score.distance) else -MOST_DIVERGENCE


def _error(score: Score) -> float:
    """Return the share of errors (UsageError where the metric is no share)."""
    if not score.metric.share:
        raise UsageError(
            f"Rewards that trade size against accuracy need a share in [0, 1], but the metric is {score.metric.name}; use the "
            "reward 'accuracy' on a fixed budget."
        )
    return 1.0 - score.accuracy


@rewards.register("accuracy-flops")
def accuracy_flops(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_FLOPs = -error * log(MACs): accuracy is worth more, and smaller is better.

    Args:
        score: The policy's result. A network without any multiply-add counts as one with one.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -_error(score) * math.log(max(score.macs, 1))


@rewards.register("accuracy-params")
def accuracy_params(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_Param = -error * log(number of parameters).

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -_error(score) * math.log(max(score.params, 1))


@rewards.register("accuracy-latency")
def accuracy_latency(score: Score, dense: Score, budget: Budget) -> float:
    """Return ``accuracy * (latency / target)**-0.07``: twice as fast is worth 5 % of the accuracy.

    The soft constraint of Tan et al., "MnasNet" (CVPR 2019), equation 2; the target is the budget's limit of latency.

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.

    Raises:
        UsageError: if the budget limits no latency.
    """
    _error(score)
    limit = budget.limit("latency")
    if limit is None:
        raise UsageError(
            "The reward 'accuracy-latency' needs a budget of latency; give for instance --budget latency=0.8."
        )
    return score.accuracy * math.pow(score.of("latency") / limit.of(dense.of("latency")), -0.07)


@rewards.register("smallest")
def smallest(score: Score, dense: Score, budget: Budget) -> float:
    """Return how much smaller the network is, as long as its accuracy is within the drop allowed; for ``--max-drop``.

    Within the drop it is the share of the cost that is gone, in [0, 1); beyond, minus the accuracy lost too much.

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search, with ``max_drop`` and ``minimize``.

    Raises:
        UsageError: if the budget allows no drop.
    """
    if budget.max_drop is None or budget.minimize is None:
        raise UsageError("The reward 'smallest' needs a drop of accuracy that is allowed; give --max-drop.")
    if score.within(budget, dense):
        return 1.0 - score.of(budget.minimize) / dense.of(budget.minimize)
    spare = 0.0 if math.isnan(score.drop_se) else QUANTILE * score.drop_se
    return budget.max_drop / score.metric.scale - (dense.quality - score.quality + spare)


def default_reward(budget: Budget, *, labels: bool = True) -> str:
    """Return what is maximised where no reward is named.

    Args:
        budget: The budget of the search.
        labels: Whether labels (or other targets) are read.
    """
    if budget.max_drop is not None:
        return "smallest"
    return "accuracy" if labels else "divergence"


def resolve_reward(reward: str | RewardFn) -> RewardFn:
    """Return the reward function for a registered name, ``package.module:function`` or a callable (returned as it is).

    Raises:
        UsageError: for an unknown name, something that cannot be imported or that cannot be called.
    """
    found: object = reward
    if isinstance(reward, str):
        found = import_object(reward, "reward") if ":" in reward else rewards.get(reward)
    if not callable(found):
        raise UsageError(f"The reward {reward!r} is not callable; give a function fn(score, dense, budget) -> float.")
    return cast(RewardFn, found)


def check_reward(reward: str | RewardFn, budget: Budget | None) -> None:
    """Refuse a reward that trades size itself on a budget that fixes the size.

    Args:
        reward: A registered name, ``package.module:function`` or a callable. Only the built-in ones can be refused.
        budget: The budget of the search, None for none.

    Raises:
        UsageError: for ``accuracy-flops`` and ``accuracy-params`` with an exact budget.
    """
    sizing = {name: rewards.get(name) for name in SIZE_TRADING}
    name = next((name for name, fn in sizing.items() if reward in (name, fn)), None)
    if name is not None and budget is not None and budget.mode == "exact":
        raise UsageError(
            f"The reward '{name}' trades size against accuracy itself, but the budget mode 'exact' fixes the size; "
            "use '--budget-mode at-most', or the reward 'accuracy'."
        )


def call_reward(fn: RewardFn, score: Score, dense: Score, budget: Budget) -> float:
    """Return ``fn(score, dense, budget)`` as a finite float.

    Raises:
        UsageError: if the function raises or returns what is not a finite number; the message names the function.
    """
    name = getattr(fn, "__name__", repr(fn))
    try:
        value = float(fn(score, dense, budget))
    except AutopruneError:
        raise
    except Exception as error:
        raise UsageError(
            f"The reward '{name}' raised {type(error).__name__}: {error}; "
            "it must return a number for every (score, dense, budget)."
        ) from error
    if not math.isfinite(value):
        raise UsageError(f"The reward '{name}' returned {value} for {score}; it must return a finite number.")
    return value
