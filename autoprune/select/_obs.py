"""Block-wise optimal brain surgeon: backward elimination with the optimal refit at every removal.

Hassibi & Stork 1993 ("Second Order Derivatives for Network Pruning"), for blocks of weights: removing the inputs b of a
least-squares problem with Hessian H and solution W raises its error by tr(W_bᵀ ((H⁻¹)_bb)⁻¹ W_b) once all others are refitted.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoprune.groups import IntArray
from autoprune.select._base import NestedSelection, selections
from autoprune.select._inputs import Consumer, SelectionInputs
from autoprune.select._magnitude import Magnitude
from autoprune.support.cholesky import cholesky

RIDGE = 1e-4
_WHAT = "Which channels stay"
ONE_BY_ONE = 1024
"""Channels of a group up to which they are eliminated one at a time."""
STEPS = 64
"""Steps in which a larger group is eliminated."""

FloatArray = npt.NDArray[np.float64]


class _Elimination:
    """One consumer's H⁻¹ and W while channels go. ``blocks`` has shape (size, m): the inputs of each channel."""

    def __init__(self, consumer: Consumer, size: int) -> None:
        gram = consumer.gram
        damping = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
        self.inverse: Tensor = torch.cholesky_inverse(cholesky(gram, damping, what=_WHAT))
        self.weight = consumer.weight.clone()
        self.scale = 1.0 / max(consumer.energy(), 1e-30)
        own = torch.nonzero(consumer.unit >= 0).flatten()
        self.blocks = own[torch.argsort(consumer.unit[own], stable=True)].reshape(size, -1)  # (size, m)

    def losses(self, alive: Tensor) -> Tensor:
        """Return the rise of the error for each of the channels in ``alive``, shape (len(alive),)."""
        blocks = self.blocks[alive]
        inner = self.inverse[blocks[:, :, None], blocks[:, None, :]]  # (a, m, m)
        weight = self.weight[blocks]  # (a, m, outputs)
        factor = cholesky(inner, what=_WHAT)
        solved = torch.linalg.solve_triangular(factor, weight, upper=False)
        rise: Tensor = solved.square().sum(dim=(1, 2)) * self.scale
        return rise

    def remove(self, channels: Tensor) -> None:
        """Remove channels, shape (k,), and refit what stays."""
        block = self.blocks[channels].flatten()
        columns = self.inverse[:, block]  # (d, m)
        factor = cholesky(columns[block], what=_WHAT)
        half = torch.linalg.solve_triangular(factor, columns.T, upper=False)  # (m, d)
        self.weight.addmm_(half.T, torch.linalg.solve_triangular(factor, self.weight[block], upper=False), alpha=-1)
        self.inverse.addmm_(half.T, half, alpha=-1)


@selections.register("obs")
class OptimalBrainSurgeon(NestedSelection):
    """Remove, again and again, the channel whose removal costs least after everything else is refitted."""

    needs: ClassVar[frozenset[str]] = frozenset({"magnitude", "moments"})

    def order(self, inputs: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels in the order of elimination."""
        if not inputs["moments"]:
            return Magnitude().order(inputs, count)
        return _eliminate(inputs, count)[0]


def elimination(inputs: SelectionInputs) -> tuple[IntArray, FloatArray]:
    """Return the channels in the order of elimination, and the error at every number of channels kept.

    The error is that of the consumers, refitted, in shares of their mean squared output, summed over the consumers; 0 for all
    channels, and the same for none as for one. Where no consumer is known it is taken to be a parabola.

    Returns:
        Shapes (size,) and (size + 1,).
    """
    if not inputs["moments"]:
        parabola = np.asarray((1.0 - np.arange(inputs.size + 1) / inputs.size) ** 2, dtype=np.float64)
        return Magnitude().order(inputs), parabola
    order, rises = _eliminate(inputs, 1)
    errors = np.zeros(inputs.size + 1, dtype=np.float64)
    errors[1 : inputs.size] = np.cumsum(rises)[::-1]
    errors[0] = errors[1]
    return order, errors


def _eliminate(inputs: SelectionInputs, count: int) -> tuple[IntArray, FloatArray]:
    """Return the channels in the order of elimination, and the rise of the error at each that went before ``count`` were left.

    Of a group of more than ``ONE_BY_ONE`` channels the cheapest few go together, so that it takes as many steps as one of
    ``STEPS`` channels: each step passes over a matrix of channels x channels. What each then costs is taken as if it went alone.
    """
    problems = [_Elimination(consumer, inputs.size) for consumer in inputs["moments"]]
    alive = torch.arange(inputs.size, device=inputs["magnitude"].device)
    order: list[int] = []
    rises: list[float] = []
    together = 1 if inputs.size <= ONE_BY_ONE else math.ceil(inputs.size / STEPS)
    least = max(count, 1)
    while len(alive) > least:
        losses = sum((problem.losses(alive) for problem in problems), torch.zeros(len(alive), device=alive.device))
        places = losses.argmin()[None] if together == 1 else losses.argsort()[: min(together, len(alive) - least)]
        channels = alive[places]
        for problem in problems:
            problem.remove(channels)
        stays = torch.ones_like(alive, dtype=torch.bool)
        stays[places] = False
        alive = alive[stays]
        order += channels.tolist()
        rises += losses[places].tolist()
    return np.array(order + alive.tolist(), dtype=np.int64), np.array(rises, dtype=np.float64)
