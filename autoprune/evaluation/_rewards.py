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

SIZE_TRADING = frozenset({"accuracy-flops", "accuracy-params", "accuracy-latency"})
"""Rewards that trade size against accuracy themselves: pointless where every policy has the same size."""


@rewards.register("accuracy")
def accuracy(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_err = -error, the reward for a search on a fixed budget.

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -(1.0 - score.accuracy)


@rewards.register("accuracy-flops")
def accuracy_flops(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_FLOPs = -error * log(MACs): accuracy is worth more, and smaller is better.

    Args:
        score: The policy's result. A network without any multiply-add counts as one with one.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -(1.0 - score.accuracy) * math.log(max(score.macs, 1))


@rewards.register("accuracy-params")
def accuracy_params(score: Score, dense: Score, budget: Budget) -> float:
    """Return R_Param = -error * log(number of parameters).

    Args:
        score: The policy's result.
        dense: The unpruned network's result.
        budget: The budget of the search.
    """
    return -(1.0 - score.accuracy) * math.log(max(score.params, 1))


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
    if budget.within(score.accuracy, dense.accuracy, score.drop_se):
        return 1.0 - score.of(budget.minimize) / dense.of(budget.minimize)
    spare = 0.0 if math.isnan(score.drop_se) else QUANTILE * score.drop_se
    return budget.max_drop / 100 - (dense.accuracy - score.accuracy + spare)


def default_reward(budget: Budget) -> str:
    """Return what is maximised where no reward is named."""
    return "smallest" if budget.max_drop is not None else "accuracy"


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
