"""What a channel selection sees and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from autoprune.groups import IntArray
from autoprune.registry import Registry


@dataclass(frozen=True, eq=False)
class Consumer:
    """One least-squares problem that reads the group's channels: a consuming layer, or one kernel tap of a large one.

    Attributes:
        gram: Second moments of its inputs, XᵀX / samples (centred where the layer has an intercept), float64 (d, d).
        weight: The weights that map the d inputs to its outputs, float64 (d, outputs).
        unit: For each of the d inputs the group's channel it belongs to, -1 where it belongs to another group, int64 (d,).
    """

    gram: Tensor
    weight: Tensor
    unit: Tensor

    def energy(self) -> float:
        """Return the mean squared output tr(WᵀGW), the unit in which errors of different consumers are added."""
        return float((self.weight * (self.gram @ self.weight)).sum())


@dataclass(frozen=True, eq=False)
class SelectionInputs:
    """All that is known of one coupling group when its channels are chosen.

    Attributes:
        size: Number of channels.
        consumers: The layers that read them; may be empty. Filled only if the selection needs "moments".
        magnitude: Summed absolute weight of each channel over all its producers, float64 (size,).
    """

    size: int
    consumers: tuple[Consumer, ...]
    magnitude: Tensor


class Selection(ABC):
    """Chooses which channels of a group stay.

    Attributes:
        needs: What must be collected for it: "weights", "moments".
    """

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})

    @abstractmethod
    def keep(self, evidence: SelectionInputs, count: int) -> IntArray:
        """Return the ``count`` channels that stay, ascending."""


class NestedSelection(Selection):
    """A selection whose choice for fewer channels lies within its choice for more: one order serves every count."""

    @abstractmethod
    def order(self, evidence: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels in the order in which they go, first to go first, shape (size,).

        With ``count`` only the first ``size - count`` places need be in order.
        """

    def keep(self, evidence: SelectionInputs, count: int) -> IntArray:
        """Return the ``count`` channels that stay, ascending."""
        return np.sort(self.order(evidence, count)[evidence.size - count :])


def channel_gram(evidence: SelectionInputs) -> Tensor:
    """Return M with M[i, j] = Σ over consumers of tr(W_iᵀ G_ij W_j) / energy, float64 (size, size).

    The mean squared output that channel set T contributes is the sum of M over T x T, so that ThiNet and LASSO, which weigh
    whole channels, need nothing but this matrix.
    """
    device = evidence.magnitude.device
    total = torch.zeros(evidence.size, evidence.size, dtype=torch.float64, device=device)
    for consumer in evidence.consumers:
        own = consumer.unit >= 0
        weight, unit = consumer.weight[own], consumer.unit[own]
        products = consumer.gram[own][:, own] * (weight @ weight.T)  # (m, m)
        scale = max(consumer.energy(), 1e-30)
        rows = torch.zeros(evidence.size, len(unit), dtype=torch.float64, device=device).index_add_(0, unit, products)
        total += torch.zeros_like(total).index_add_(1, unit, rows) / scale
    return total


selections: Registry[type[Selection]] = Registry("selection", "autoprune.selections")
