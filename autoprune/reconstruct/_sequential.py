"""The sequential refit: layer by layer on the pruned network's own inputs, against the dense network's outputs.

One pass over the calibration images in which every layer, when its turn comes, sees what the layers pruned and
refitted before it really produce, and is refitted to the dense output at its place. A layer that ends a residual branch
is refitted to the dense *sum* less the other summand as it now is, which also repairs what the shortcut lost. (He et
al. 2017, section 3.2, refit to the dense output; the block target and the intercept are ours.) What a rectifier behind the
layer cuts off anyway is not fitted, see `fit_affine`.

The pass runs at full output width: channels that go are simply never read. So no shape in the traced program changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune.graph._types import IntArray, PruningGraph
from autoprune.reconstruct._layers import as_columns, as_weight, restore, run_layer
from autoprune.reconstruct._lstsq import fit_affine
from autoprune.reconstruct._plan import Affine, Dense, Plan
from autoprune.reconstruct._statistics import Statistics


@dataclass(frozen=True, eq=False)
class Refit:
    """A refitted, pruned network as data.

    Attributes:
        kept: For each pruned group's name the channels that stay.
        tensors: State-dict entries that replace the sliced ones, in their small shapes.
    """

    kept: dict[str, IntArray]
    tensors: dict[str, Tensor]


def in_channels_kept(layer_group: IntArray, layer_unit: IntArray, kept: Mapping[int, IntArray]) -> IntArray:
    """Return the channels (of a layer's input or output) that stay, given the kept units of each decided group."""
    stays = np.ones(len(layer_group), dtype=bool)
    for index, units in kept.items():
        inside = layer_group == index
        stays &= ~inside | np.isin(layer_unit, units)
    return np.flatnonzero(stays)


def sequential_refit(
    plan: Plan,
    statistics: Statistics,
    kept: Mapping[int, IntArray],
    *,
    ridge: float,
    turns: int = 0,
    known: Statistics | None = None,
) -> dict[str, Tensor]:
    """Refit all layers of a pruned network in one pass over the statistics' calibration images.

    Args:
        plan: The dense network's plan.
        statistics: Rows and targets of the dense network on the calibration images.
        kept: Channels that stay, per group index; groups left out stay whole.
        ridge: Relative pull of the least squares towards the original weights.
        turns: How often outputs that a rectifier cuts off are solved for, see `fit_affine`.
        known: More of the dense network's statistics, whose moments stand beside what the calibration images give.

    Returns:
        State-dict entries in their small shapes.
    """
    full: dict[str, Tensor] = {}
    lost = False  # whether a layer lost inputs: up to there all is as in the dense network, and nothing is refitted

    def visit(step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        nonlocal lost
        layer = step.layer
        axis = value.dim() - 1 if layer.op == "linear" else 1
        stays = in_channels_kept(layer.in_group, layer.in_unit, kept) if layer.reads_channels else None
        lost = lost or (stays is not None and len(stays) < layer.in_channels)
        if not (step.refit and lost):
            return dense(value if stays is None else _only(value, axis, stays))
        rows, folded = statistics.rows[layer.name], statistics.folded[layer.name]
        weight = folded.weight
        if stays is not None and len(stays) < layer.in_channels:
            places = torch.from_numpy(stays).to(value.device)
            own = places[: len(places) // layer.groups]  # the same in every group
            value, weight = value.index_select(axis, places), weight.index_select(1, own)
        fit = fit_affine(
            _per_group(rows.inputs(value), layer.groups, math.prod(layer.kernel)),
            _per_group(statistics.targets[layer.name], layer.groups),
            as_columns(layer, weight),
            ridge=ridge,
            intercept=folded.intercept,
            other=None if other is None else _per_group(rows.outputs(other), layer.groups),
            flat=step.flat,
            turns=turns,
            known=None if known is None else known.of_kept(layer, stays),
        )
        full.update(restore(plan, step, folded, fit))
        return run_layer(layer, value, as_weight(fit.weight, layer.kernel), fit.intercept.flatten())

    plan.run(statistics.images, visit)
    return narrow_outputs(plan.graph, full, kept)


def narrow_outputs(graph: PruningGraph, full: Mapping[str, Tensor], kept: Mapping[int, IntArray]) -> dict[str, Tensor]:
    """Cut the output channels that go from refitted tensors (whose inputs are cut already)."""
    weights = {layer.weight for layer in graph.layers}
    gone: dict[str, list[IntArray]] = {}
    for index, units in kept.items():
        for part in graph.groups[index].slices:
            if part.tensor in full and (part.dim == 0 or part.tensor not in weights):
                gone.setdefault(part.tensor, []).append(part.position[~np.isin(part.unit, units)])
    narrow = dict(full)
    for name, positions in gone.items():
        stays = np.setdiff1d(np.arange(len(full[name])), np.concatenate(positions))
        narrow[name] = full[name].index_select(0, torch.from_numpy(stays).to(full[name].device))
    return narrow


def _only(value: Tensor, axis: int, stays: IntArray) -> Tensor:
    """Return ``value`` with all channels but ``stays`` set to zero."""
    gone = np.setdiff1d(np.arange(value.shape[axis]), stays)
    return value.index_fill(axis, torch.from_numpy(gone).to(value.device), 0) if len(gone) else value


def _per_group(rows: Tensor, groups: int, taps: int = 1) -> Tensor:
    """Split rows of ``taps`` runs of channels, (P, taps * g * c), into (g, P, taps * c)."""
    return rows.reshape(len(rows), taps, groups, -1).permute(2, 0, 1, 3).flatten(2) if groups > 1 else rows[None]
