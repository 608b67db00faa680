"""What a channel selection is asked and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from autoprune.groups import IntArray
from autoprune.registry import Registry
from autoprune.select._inputs import Consumer, SelectionInputs
from autoprune.select._kinds import check_needs


class Selection(ABC):
    """Chooses which channels of a group stay.

    Attributes:
        needs: The kinds of input that it reads, names in `autoprune.select.input_kinds`; nothing else is collected for it.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def keep(self, inputs: SelectionInputs, count: int) -> IntArray:
        """Return the ``count`` channels that stay, ascending."""


class NestedSelection(Selection):
    """A selection whose choice for fewer channels lies within its choice for more: one order serves every count."""

    @abstractmethod
    def order(self, inputs: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels in the order in which they go, first to go first, shape (size,).

        With ``count`` only the first ``size - count`` places need be in order.
        """

    def keep(self, inputs: SelectionInputs, count: int) -> IntArray:
        """Return the ``count`` channels that stay, ascending."""
        return np.sort(self.order(inputs, count)[inputs.size - count :])


def channel_gram(consumers: tuple[Consumer, ...], size: int) -> Tensor:
    """Return M with M[i, j] = Σ over consumers of tr(W_iᵀ G_ij W_j) / energy, float64 (size, size).

    The mean squared output that channel set T contributes is the sum of M over T x T, so that ThiNet and LASSO, which weigh
    whole channels, need nothing but this matrix.

    Args:
        consumers: The group's consumers, at least one.
        size: Number of channels.
    """
    device = consumers[0].gram.device
    total = torch.zeros(size, size, dtype=torch.float64, device=device)
    for consumer in consumers:
        own = consumer.unit >= 0
        weight, unit = consumer.weight[own], consumer.unit[own]
        products = consumer.gram[own][:, own] * (weight @ weight.T)  # (m, m)
        scale = max(consumer.energy(), 1e-30)
        rows = torch.zeros(size, len(unit), dtype=torch.float64, device=device).index_add_(0, unit, products)
        total += torch.zeros_like(total).index_add_(1, unit, rows) / scale
    return total


class _Selections(Registry[type[Selection]]):
    def register(self, name: str) -> Callable[[type[Selection]], type[Selection]]:
        """Return a decorator that registers a selection whose needs are known."""
        add = super().register(name)

        def decorator(selection: type[Selection]) -> type[Selection]:
            check_needs(selection.needs, selection=name)
            return add(selection)

        return decorator

    def get(self, name: str) -> type[Selection]:
        """Return the selection called ``name``, or what ``package.module:name`` names."""
        selection = super().get(name)
        check_needs(getattr(selection, "needs", ()), selection=name)
        return selection


selections: Registry[type[Selection]] = _Selections("selection", "autoprune.selections")
