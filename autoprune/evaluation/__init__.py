"""What good means: accuracy, loss and divergence of a network, score and reward of a policy, what counts as a difference."""

from autoprune.evaluation._divergence import divergence
from autoprune.evaluation._evaluate import TEMPERATURE, Z_THRESHOLD, Answers, Evaluator, Part, clearly_worse
from autoprune.evaluation._metric import ACCURACY, AGREEMENT, DIVERGENCE, Metric
from autoprune.evaluation._rewards import (
    SIZE_TRADING,
    RewardFn,
    accuracy,
    call_reward,
    check_reward,
    default_reward,
    resolve_reward,
    rewards,
    smallest,
)
from autoprune.evaluation._score import Score
from autoprune.evaluation._significance import Agents, Difference, Networks, stacked, standard_error
from autoprune.evaluation._user import Evaluate

__all__ = [
    "ACCURACY",
    "AGREEMENT",
    "DIVERGENCE",
    "SIZE_TRADING",
    "TEMPERATURE",
    "Z_THRESHOLD",
    "Agents",
    "Answers",
    "Difference",
    "Evaluate",
    "Evaluator",
    "Metric",
    "Networks",
    "Part",
    "RewardFn",
    "Score",
    "accuracy",
    "call_reward",
    "check_reward",
    "clearly_worse",
    "default_reward",
    "divergence",
    "resolve_reward",
    "rewards",
    "smallest",
    "stacked",
    "standard_error",
]
