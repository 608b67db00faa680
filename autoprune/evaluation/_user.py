"""A user's own function ``model -> {"accuracy", "loss"}``: checked, seeded, and averaged where it answers differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from autoprune.data import failed, seeded
from autoprune.errors import AutopruneError

Evaluate = Callable[[nn.Module], Mapping[str, float]]
REPEATS = 4
"""Calls whose mean is the answer of a function that gives the same network different accuracies."""


class UserEvaluation:
    """Calls a user's evaluation, under the same seeds every time.

    On the search part the first network is measured twice. If the accuracies differ, the user is told, and from then on every
    answer is the mean of `REPEATS` calls, so that the luck of one call does not decide.

    Args:
        function: The user's.
        name: What its part is called in messages ("search").

    Attributes:
        notes: What the user should know, in sentences.
        gives_loss: Whether it returned a loss.

    Raises:
        AutopruneError: if it raises, or returns something else than a dict with an accuracy in [0, 1].
    """

    def __init__(self, function: Evaluate, name: str) -> None:
        self._function = function
        self._name = name
        self._repeats = 0 if name == "search" else 1
        self.notes: tuple[str, ...] = ()
        self.gives_loss = False

    def __call__(self, model: nn.Module) -> tuple[float, float]:
        """Return accuracy in [0, 1] and loss (NaN where none is returned) of a model in eval mode."""
        found = [self._once(model) for _ in range(self._repeats or 2)]
        if not self._repeats:
            first, second = (accuracy for accuracy, _ in found)
            self._repeats = 1 if first == second else REPEATS
            if first != second:
                found += [self._once(model) for _ in range(REPEATS - 2)]
                least, most = (100 * pick(accuracy for accuracy, _ in found) for pick in (min, max))
                self.notes = (
                    f"The evaluate function for the {self._name} part answered {least:.2f} to {most:.2f} % for the same "
                    f"network in {REPEATS} calls: every accuracy is the mean of {REPEATS} calls from here on, and differences of "
                    f"up to {most - least:.2f} points are chance.",
                )
            else:
                found = found[:1]
        accuracies, losses = zip(*found, strict=True)
        return math.fsum(accuracies) / len(found), math.fsum(losses) / len(found)

    def _once(self, model: nn.Module) -> tuple[float, float]:
        what = f"The evaluate function for the {self._name} part"
        try:
            with seeded(0):
                result: Any = self._function(model)
        except AutopruneError:
            raise
        except Exception as error:
            raise AutopruneError(f"{what} raised {failed(error)}.") from error
        if not isinstance(result, Mapping) or not _is_number(result.get("accuracy")):
            raise AutopruneError(
                f"{what} returned {_short(result)}; it must return a dict with 'accuracy' and 'loss', which are numbers."
            )
        accuracy, loss = float(result["accuracy"]), result.get("loss", math.nan)
        if not _is_number(loss):
            raise AutopruneError(f"{what} returned the loss {_short(loss)}; it must be a number, or left out.")
        self.gives_loss = "loss" in result
        if not 0.0 <= accuracy <= 1.0:
            raise AutopruneError(
                f"{what} returned accuracy {accuracy}; it must be a share in [0, 1], not a percentage."
            )
        return accuracy, float(loss)


def _is_number(value: object) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0 and not (
            value.is_complex() if isinstance(value, Tensor) else value.dtype.kind not in "iuf"
        )
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _short(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:200] + "..."
