"""What agents are compared by: at one size the metric, within a drop how much is saved, along a front the area below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.budget import Budget, noun
from autoprune.evaluation import Metric
from autoprune.report import Row, metric_of


def merit_of(report: Mapping[str, Any]) -> Metric:
    """Return what runs like this one are compared by.

    Args:
        report: A finished run's.
    """
    budget = Budget.from_dict(report["budget"])
    if budget.minimize is None:
        return metric_of(report)
    return Metric(f"{noun(budget.minimize)} saved" if budget.max_drop is not None else "area below the front")


def merit(report: Mapping[str, Any]) -> float:
    """Return how good a run is by that: its network's metric, the share of the cost that is gone, or the area of its agent.

    Args:
        report: A finished run's.
    """
    budget = Budget.from_dict(report["budget"])
    if budget.minimize is None:
        return float(report["final"]["accuracy"])
    if budget.max_drop is None:
        return float(report["front"]["areas"][report["agent"]])
    small, dense = (Row.from_dict(report[name]).cost(budget.minimize) for name in ("final", "dense"))
    return 1.0 - small / dense
