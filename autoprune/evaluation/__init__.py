"""What good means: accuracy, loss and divergence of a network, score and reward of a policy, what counts as a difference."""

from autoprune.evaluation._answers import Z_THRESHOLD, Answers, clearly_worse
from autoprune.evaluation._divergence import (
    TEMPERATURE,
    Divergence,
    DivergenceFn,
    check_divergence,
    divergence,
    divergences,
)
from autoprune.evaluation._evaluate import Evaluator, Part
from autoprune.evaluation._metric import ACCURACY, AGREEMENT, DIVERGENCE, PIXEL_ACCURACY, Metric
from autoprune.evaluation._metrics import TargetMetric, loss_name, loss_text, metrics
from autoprune.evaluation._outputs import Outputs, check_comparable, outputs_of, scores_classes
from autoprune.evaluation._probe import PROBE_TEMPERATURE, answers_divergence
from autoprune.evaluation._reference import Reference
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
from autoprune.evaluation._score import CLEARLY, Score, clearly_ahead
from autoprune.evaluation._significance import Agents, Difference, Networks, error_of, stacked, standard_error
from autoprune.evaluation._task import Run, Task, answered, outputs_to, run_by
from autoprune.evaluation._user import Evaluate

__all__ = [
    "ACCURACY",
    "AGREEMENT",
    "CLEARLY",
    "DIVERGENCE",
    "PIXEL_ACCURACY",
    "PROBE_TEMPERATURE",
    "SIZE_TRADING",
    "TEMPERATURE",
    "Z_THRESHOLD",
    "Agents",
    "Answers",
    "Difference",
    "Divergence",
    "DivergenceFn",
    "Evaluate",
    "Evaluator",
    "Metric",
    "Networks",
    "Outputs",
    "Part",
    "Reference",
    "RewardFn",
    "Run",
    "Score",
    "TargetMetric",
    "Task",
    "accuracy",
    "answered",
    "answers_divergence",
    "call_reward",
    "check_comparable",
    "check_divergence",
    "check_reward",
    "clearly_ahead",
    "clearly_worse",
    "default_reward",
    "divergence",
    "divergences",
    "error_of",
    "loss_name",
    "loss_text",
    "metrics",
    "outputs_of",
    "outputs_to",
    "resolve_reward",
    "rewards",
    "run_by",
    "scores_classes",
    "smallest",
    "stacked",
    "standard_error",
]
