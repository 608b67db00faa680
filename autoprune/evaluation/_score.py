"""The score that a policy got."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from autoprune.budget import Budget
from autoprune.evaluation._metric import ACCURACY, Metric


@dataclass(frozen=True)
class Score:
    """One policy's result.

    Attributes:
        accuracy: What the metric says, in its own unit and direction: by default top-1 accuracy in [0, 1].
        loss: Mean cross-entropy in nats; the divergence where no labels are read.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        distance: How far the answers are from the dense network's, see `autoprune.evaluation.divergences`: for class scores the
            Kullback-Leibler divergence in nats; NaN where they are not known one by one.
        reward: What the reward function made of it (NaN before it was asked; it is never asked about the report part).
        seconds: Time the score took, by `autoprune.support.device.clock`.
        images: The same in dense-image equivalents: multiply-adds, of forward passes and least squares, over those of one image
            through the dense network; independent of the machine. NaN where the number of search images is not known, and on
            the report part.
        share: Share of the search images that it was scored on: below 1 where a race stopped it.
        drop_se: Standard error of the accuracy's difference to the dense network's, paired image by image; NaN where the
            images are not known one by one, or the metric says nothing of single images.
        cost: The same in dense passes: seconds over those of one eager pass of the dense network over the search images.
        costs: What else the budget limits, by kind: "latency" in seconds (predicted), "size" and "memory" in bytes, costs of
            one's own.
        metric: What ``accuracy`` is; not part of a record, as it is the run's.
    """

    accuracy: float
    loss: float
    macs: int
    params: int
    reward: float = math.nan
    seconds: float = 0.0
    cost: float = 0.0
    images: float = math.nan
    drop_se: float = math.nan
    share: float = 1.0
    distance: float = math.nan
    costs: Mapping[str, float] = field(default_factory=dict)
    metric: Metric = ACCURACY

    @property
    def quality(self) -> float:
        """The metric's value, larger is better: with its sign changed where the metric is to be small."""
        return self.accuracy if self.metric.maximize else -self.accuracy

    def given_up(self, dense: Score) -> float:
        """Return how much worse than the dense network it is, as a share of that one's value; 0 where it is not worse."""
        return max(dense.quality - self.quality, 0.0) / (abs(dense.quality) or 1.0)

    def within(self, budget: Budget, dense: Score, *, sure: bool = True) -> bool:
        """Whether the network lost no more than a budget allows, see `autoprune.budget.Budget.within`.

        Args:
            budget: The budget.
            dense: The dense network's score on the same images.
            sure: Whether the standard error of the difference counts.
        """
        error = self.drop_se if sure else math.nan
        return budget.within(self.quality, dense.quality, error, scale=self.metric.scale)

    def of(self, kind: str) -> float:
        """Return the cost of one kind ("macs", "params", or one that the budget names).

        Raises:
            KeyError: if it was not measured.
        """
        return float({"macs": self.macs, "params": self.params, **self.costs}[kind])

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        found = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "metric"}
        return found | {"costs": dict(self.costs)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], metric: Metric = ACCURACY) -> Score:
        """Read what ``to_dict`` gave from JSON, where null stands for a number that was not finite; other keys are ignored.

        Args:
            record: The values.
            metric: What the run measures.

        Raises:
            ValueError: for a value that no score has.
            KeyError: if one is missing.
        """
        share = _number(record, "share")
        costs = record["costs"]
        if not 0 < share <= 1 or not isinstance(costs, Mapping):
            raise ValueError(f"the share is {share} and the costs {costs!r:.40}")
        return cls(
            macs=_amount(record, "macs"),
            params=_amount(record, "params"),
            share=share,
            metric=metric,
            costs={str(kind): _number(costs, kind) for kind in costs},
            **{key: _number(record, key) for key in _FLOATS},
        )


CLEARLY = 2.0
"""Standard errors by which a network is clearly better than another as scored."""


def clearly_ahead(by: float, *errors: float | None) -> bool:
    """Return whether a network is clearly better than another; False where an error is not known.

    Args:
        by: The difference of their qualities.
        *errors: The standard error of each one's difference to the dense network (`Score.drop_se`), which errs on the safe side
            for that of their own.
    """
    return by > CLEARLY * math.hypot(*(math.nan if error is None else error for error in errors))


_FLOATS = ("accuracy", "loss", "reward", "seconds", "cost", "images", "drop_se", "distance")


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record[key]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'{key}' is {value!r:.40}, but must be a number")
    return float(value)


def _amount(record: Mapping[str, Any], key: str) -> int:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"'{key}' is {value!r:.40}, but must be a whole number of at least 0")
    return value
