"""A user's own function ``model -> {"accuracy", "loss"}``, or of other numbers: checked, seeded, averaged if it answers anew.

A number may be given sample by sample instead, shape (n,): it is their mean, and its standard error and paired tests are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.data import failed, seeded, to_tensor
from autoprune.errors import AutopruneError
from autoprune.evaluation._metric import ACCURACY, Metric

Evaluate = Callable[[nn.Module], Mapping[str, Any]]
REPEATS = 4
"""Calls whose mean is the answer of a function that gives the same network different accuracies."""


class UserEvaluation:
    """Calls a user's evaluation, under the same seeds every time.

    On the search part the first network is measured twice. If the accuracies differ, the user is told, and from then on every
    answer is the mean of `REPEATS` calls, so that the luck of one call does not decide.

    Args:
        function: The user's.
        name: What its part is called in messages ("search").
        metric: Which of its numbers counts.

    Attributes:
        notes: What the user should know, in sentences.
        gives_loss: Whether it returned a loss.
        by_sample: What it gave of each sample in the last call, shape (n,), averaged over calls; None where it gives one number.

    Raises:
        AutopruneError: if it raises, or returns something else than a dict with that number (an accuracy in [0, 1]).
    """

    def __init__(self, function: Evaluate, name: str, metric: Metric = ACCURACY) -> None:
        self._function = function
        self._name = name
        self._metric = metric
        self._repeats = 0 if name == "search" else 1
        self.notes: tuple[str, ...] = ()
        self.gives_loss = False
        self.by_sample: Tensor | None = None
        self._samples: int | None = None  # how many it gave at first

    def __call__(self, model: nn.Module) -> tuple[float, float]:
        """Return the metric (an accuracy in [0, 1]) and loss (NaN where none is returned) of a model in eval mode."""
        found = [self._once(model) for _ in range(self._repeats or 2)]
        if not self._repeats:
            first, second = (accuracy for accuracy, _, _ in found)
            self._repeats = 1 if first == second else REPEATS
            if first != second:
                found += [self._once(model) for _ in range(REPEATS - 2)]
                metric = self._metric
                least, most = (pick(accuracy for accuracy, _, _ in found) for pick in (min, max))
                self.notes = (
                    f"The evaluate function for the {self._name} part answered {metric.text(least)} to "
                    f"{metric.text(most)}{metric.unit} for the same network in {REPEATS} calls: every {metric.name} is the mean "
                    f"of {REPEATS} calls from here on, and differences of up to {metric.text(most - least)}"
                    f"{metric.difference_unit} are chance.",
                )
            else:
                found = found[:1]
        accuracies, losses, samples = zip(*found, strict=True)
        self.by_sample = None if samples[0] is None else torch.stack(samples).mean(0)
        return math.fsum(accuracies) / len(found), math.fsum(losses) / len(found)

    def _once(self, model: nn.Module) -> tuple[float, float, Tensor | None]:
        what = f"The evaluate function for the {self._name} part"
        try:
            with seeded(0):
                result: Any = self._function(model)
        except AutopruneError:
            raise
        except Exception as error:
            raise AutopruneError(f"{what} raised {failed(error)}.") from error
        key = self._metric.name
        each = _samples(result.get(key)) if isinstance(result, Mapping) else None
        if not isinstance(result, Mapping) or not (each is not None or _is_number(result.get(key))):
            raise AutopruneError(f"{what} returned {_short(result)}; {self._rule(result)}.")
        self._check_samples(each, what)
        value, loss = float(result[key] if each is None else each.mean()), result.get("loss", math.nan)
        if not _is_number(loss):
            raise AutopruneError(f"{what} returned the loss {_short(loss)}; it must be a number, or left out.")
        self.gives_loss = "loss" in result
        if key != ACCURACY.name and not math.isfinite(value):
            raise AutopruneError(f"{what} returned {key} {value}; it must be a finite number.")
        if key == ACCURACY.name and not 0.0 <= value <= 1.0:
            raise AutopruneError(f"{what} returned accuracy {value}; it must be a share in [0, 1], not a percentage.")
        return value, float(loss), each

    def _check_samples(self, each: Tensor | None, what: str) -> None:
        """Refuse another number of samples than at first."""
        count = 0 if each is None else len(each)
        self._samples = count if self._samples is None else self._samples
        if count != self._samples:
            said = ["one number" if samples == 0 else f"{samples} numbers" for samples in (count, self._samples)]
            raise AutopruneError(
                f"{what} returned {said[0]} as {self._metric.name}, but {said[1]} the first time; it must return as many for "
                "every network, in the same order."
            )

    def _rule(self, result: object) -> str:
        """Return what must be returned, for what was."""
        key = self._metric.name
        if key != ACCURACY.name:
            return f"it must return a dict with '{key}', which is a number (or one for each sample, shape (n,))"
        rule = "it must return a dict with 'accuracy' and 'loss', which are numbers"
        others = [name for name, value in result.items() if _is_number(value)] if isinstance(result, Mapping) else []
        named = next((str(name) for name in others if name not in ("accuracy", "loss")), None)
        if named is None or "accuracy" in cast(Mapping[str, object], result):
            return rule
        return f"{rule}, or say what counts: maximize='{named}' or minimize_metric='{named}' (--maximize {named})"

    def check_dense(self, loss: float) -> None:
        """Refuse a loss of the dense network that is NaN.

        Raises:
            AutopruneError: if it is.
        """
        if math.isnan(loss) and self.gives_loss:
            raise AutopruneError(
                f"The evaluate function for the {self._name} part returned the loss NaN for the dense network; it must be "
                "finite, or left out."
            )


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0 and not (
            value.is_complex() if isinstance(value, Tensor) else value.dtype.kind not in "iuf"
        )
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _samples(value: object) -> Tensor | None:
    """Return numbers sample by sample, shape (n,), in double precision; None for anything else."""
    found = to_tensor(value) if isinstance(value, Tensor | np.ndarray | list | tuple) else None
    if found is None or found.ndim != 1 or len(found) < 2 or found.is_complex():
        return None
    return found.detach().cpu().double()


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:200] + "..."
