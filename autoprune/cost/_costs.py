"""What a budget can limit: a cost as a function of the kept channel counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from autoprune.budget import UserCost, costs, noun
from autoprune.cost._model import CostModel
from autoprune.cost._quadratic import IntArray
from autoprune.decisions import Decision, applied
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import PruningGraph
from autoprune.registry import import_object

Values = npt.NDArray[Any]


class Cost(Protocol):
    """A number that does not fall when a group keeps more channels (a latency may, where more channels are faster)."""

    def __call__(self, counts: Sequence[int], /) -> float:
        """Return the cost for channel counts aligned with the decisions."""

    def many(self, counts: IntArray, /) -> Values:
        """Return the costs of many policies; counts of shape (N, decisions), result of shape (N,)."""


def on_network(function: Callable[[nn.Module], float]) -> Callable[[nn.Module], float]:
    """Say that a cost of one's own takes the pruned network instead of its channel counts (a decorator).

    The network has the right shapes, but its weights are those of the first channels of each group: what a cost makes of
    the weights means nothing. It is called for every policy looked at, tens of times for each one scored.
    """
    cast(Any, function).on_network = True
    return function


class OwnCost:
    """A user's cost, remembered for each policy it was asked for.

    Args:
        name: A name in `costs`, or ``package.module:function``.
        model: The dense network.
        graph: Its coupling graph.
        decisions: What a policy decides.

    Raises:
        UsageError: if there is no such function, or it raises, or returns what is no finite number above 0.
    """

    def __init__(self, name: str, model: nn.Module, graph: PruningGraph, decisions: Sequence[Decision]) -> None:
        self._name = name
        self._function = find_cost(name)
        self._model, self._graph, self._decisions = model, graph, tuple(decisions)
        self._known: dict[tuple[int, ...], float] = {}

    def __call__(self, counts: Sequence[int]) -> float:
        key = tuple(int(count) for count in counts)
        if key not in self._known:
            self._known[key] = self._ask(key)
        return self._known[key]

    def _ask(self, counts: tuple[int, ...]) -> float:
        kept = {group.name: count for group, count in zip(self._decisions, counts, strict=True)}
        given: object = kept
        if getattr(self._function, "on_network", False):
            given = network_of(self._model, self._graph, self._decisions, kept)
        return ask(self._function, self._name, given, kept)

    def many(self, counts: IntArray) -> Values:
        """Return the costs of many policies; counts of shape (N, decisions), result of shape (N,)."""
        return np.array([self(row) for row in counts.tolist()], dtype=np.float64)


def find_cost(name: str) -> UserCost:
    """Return a user's cost by its name in `costs`, or by ``package.module:function``.

    Raises:
        UsageError: if there is none, or it cannot be called.
    """
    function = import_object(name, "cost") if ":" in name else costs.get(name)
    if not callable(function):
        raise UsageError(f"The cost '{name}' is not callable; give a function of the kept channels.")
    return cast(UserCost, function)


def network_of(
    model: nn.Module, graph: PruningGraph, decisions: Sequence[Decision], kept: Mapping[str, int]
) -> nn.Module:
    """Return the network with the first channels of each group, as many as ``kept`` says by the decision's name."""
    return applied(model, graph, decisions, {name: np.arange(count) for name, count in kept.items()})


def ask(function: UserCost, name: str, given: object, kept: Mapping[str, int]) -> float:
    """Return what a user's cost says of a policy.

    Args:
        function: The cost.
        name: Its name, for messages.
        given: What it takes: a network, or the kept channels.
        kept: Kept channels by the group's name, for messages.

    Raises:
        UsageError: if it raises, or returns what is no finite number above 0.
    """
    try:
        with torch.no_grad():
            value = float(function(given))
    except AutopruneError:
        raise
    except Exception as error:
        raise UsageError(
            f"The cost '{name}' raised {type(error).__name__}: {error}; it must return a number for every policy."
        ) from error
    if not 0 < value < math.inf:
        raise UsageError(f"The cost '{name}' returned {value} for {dict(kept)}; it must be a number above 0.")
    return value


def size_cost(model: CostModel, state: Mapping[str, torch.Tensor]) -> Cost:
    """Return the bytes of a network's weights and buffers, each tied one counted once.

    Args:
        model: The closed form.
        state: The dense network's state dict.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        if tensor.numel() and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            shapes[name] = tuple(tensor.shape)
    return model.elements(shapes, {name: state[name].element_size() for name in shapes})


def check_cost(kind: str, cost: Cost, smallest: Sequence[int], whole: Sequence[int]) -> None:
    """Refuse a cost that pruning does not lower.

    Raises:
        UsageError: if the smallest network allowed costs as much as the dense one.
    """
    least, most = cost(smallest), cost(whole)
    if not least < most:
        raise UsageError(
            f"The budget limits {noun(kind)}, but the smallest network allowed has {least:g} and the dense one {most:g}: "
            "pruning does not lower it here."
        )
