"""The sequential refit: layer by layer on the pruned network's own inputs, against the dense network's outputs.

One pass over the calibration images in which every layer, when it is reached, gets what the layers pruned and
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

from autoprune.groups import IntArray, Layer, PruningGraph
from autoprune.reconstruct._layers import as_columns, as_weight, restore, run_layer
from autoprune.reconstruct._lstsq import RIDGE, Fit, fit_affine
from autoprune.reconstruct._plan import Dense, Plan
from autoprune.reconstruct._statistics import Statistics
from autoprune.reconstruct._steps import Affine


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


class Sequential:
    """Refits of all layers of one pruned network, in the order of its plan.

    Args:
        plan: The dense network's plan.
        statistics: Rows and targets of the dense network on the calibration images.
        kept: Channels that stay, per group index; groups left out stay whole.
        relu_iterations: How often outputs that a rectifier cuts off are solved for, see `fit_affine`.
        prior: Statistics of the dense network on more images, whose moments stand beside what the calibration images give.

    Attributes:
        weights, biases: What was fitted, by layer name, BatchNorm folded in: shapes (out, in that stay / g, *kernel) and (out,).
        tensors: State-dict entries, their input channels cut, their output channels still there.
    """

    def __init__(
        self,
        plan: Plan,
        statistics: Statistics,
        kept: Mapping[int, IntArray],
        *,
        relu_iterations: int = 0,
        prior: Statistics | None = None,
    ) -> None:
        self.statistics = statistics
        self._input_pruned = False  # up to there all is as in the dense network, and nothing is refitted
        self.weights: dict[str, Tensor] = {}
        self.biases: dict[str, Tensor] = {}
        self.tensors: dict[str, Tensor] = {}
        self._plan = plan
        self._kept = kept
        self._relu_iterations, self._prior = relu_iterations, prior
        self._inputs: dict[str, IntArray | None] = {}
        self._outputs: dict[str, Tensor] = {}

    def inputs_kept(self, layer: Layer) -> IntArray | None:
        """Return the input channels of a layer that stay, None where it reads none one by one."""
        if layer.name not in self._inputs:
            reads = layer.reads_channels
            self._inputs[layer.name] = self.stays(layer.in_group, layer.in_unit) if reads else None
        return self._inputs[layer.name]

    def outputs_kept(self, layer: Layer) -> Tensor:
        """Return the output channels of a layer that stay, where the images are."""
        if layer.name not in self._outputs:
            stays = torch.from_numpy(self.stays(layer.out_group, layer.out_unit))
            self._outputs[layer.name] = stays.to(self.statistics.images.device)
        return self._outputs[layer.name]

    def stays(self, group: IntArray, unit: IntArray) -> IntArray:
        """Return the channels that stay, of a value whose channels belong to these groups."""
        return in_channels_kept(group, unit, self._kept)

    def fit(self, step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        """Visit a layer: fit it to the dense network's output, and return what it then computes."""
        layer = step.layer
        stays = self.inputs_kept(layer)
        self._input_pruned = self._input_pruned or (stays is not None and len(stays) < layer.in_channels)
        if not (step.refit and self._input_pruned):
            return dense(zeroed(value, layer, stays))
        rows, folded = self.statistics.rows[layer.name], self.statistics.folded[layer.name]
        weight = folded.weight
        if stays is not None and len(stays) < layer.in_channels:
            own = torch.from_numpy(stays[: len(stays) // layer.groups]).to(value.device)  # the same in every group
            value, weight = narrowed(value, layer, stays), weight.index_select(1, own)
        fit = fit_affine(
            _per_group(rows.inputs(value), layer.groups, math.prod(layer.kernel)),
            _per_group(self.statistics.targets[layer.name], layer.groups),
            as_columns(layer, weight),
            ridge=RIDGE,
            intercept=folded.intercept,
            other=None if other is None else _per_group(rows.outputs(other), layer.groups),
            saturation=step.saturation,
            relu_iterations=self._relu_iterations,
            prior_moments=None if self._prior is None else self._prior.of_kept(layer, stays),
        )
        self._keep(step, fit)
        return run_layer(layer, value, self.weights[layer.name], self.biases[layer.name])

    def apply(self, step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        """Visit a layer: compute with what was fitted, and only output channels that stay; others are zero or left out."""
        layer = step.layer
        stays = self.inputs_kept(layer)
        if layer.name not in self.weights:
            return dense(zeroed(value, layer, stays))
        value = narrowed(value, layer, stays)
        weight, bias = self.weights[layer.name], self.biases[layer.name]
        places = self.outputs_kept(layer)
        if layer.groups > 1 or len(places) == layer.out_channels:
            return run_layer(layer, value, weight, bias)
        result = run_layer(layer, value, weight.index_select(0, places), bias.index_select(0, places))
        if layer.name in self._plan.narrow:
            return result
        return _in_places(result, places, channel_axis(layer, result), layer.out_channels)

    def recompute_statistics(self, step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        """Visit a layer whose weights were changed after the fit: as `apply`, and take its statistics anew."""
        layer, result = step.layer, self.apply(step, value, other, dense)
        if layer.name in self.weights:
            bias = self.biases[layer.name].reshape(layer.groups, -1)
            others = [dim for dim in range(result.dim()) if dim != channel_axis(layer, result)]
            variance, mean = torch.var_mean(result, dim=others, correction=0)
            if len(mean) < layer.out_channels:
                places = self.outputs_kept(layer)
                variance, mean = (_in_places(one, places, 0, layer.out_channels) for one in (variance, mean))
            columns = as_columns(layer, self.weights[layer.name])
            self._keep(step, Fit(columns, bias, mean.reshape_as(bias) - bias, variance.reshape_as(bias)))
        return result

    def _keep(self, step: Affine, fit: Fit) -> None:
        name = step.layer.name
        self.weights[name] = as_weight(fit.weight, step.layer.kernel)
        self.biases[name] = fit.intercept.flatten()
        self.tensors.update(restore(self._plan, step, self.statistics.folded[name], fit))


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


def channel_axis(layer: Layer, value: Tensor) -> int:
    """Return the axis of the channels in a layer's input or output."""
    return value.dim() - 1 if layer.op == "linear" else 1


def narrowed(value: Tensor, layer: Layer, stays: IntArray | None) -> Tensor:
    """Return a layer's input without the channels that go, which may not be there to begin with."""
    axis = channel_axis(layer, value)
    if stays is None or len(stays) in (layer.in_channels, value.shape[axis]):
        return value
    return value.index_select(axis, torch.from_numpy(stays).to(value.device))


def _in_places(value: Tensor, places: Tensor, axis: int, size: int) -> Tensor:
    """Return ``value`` as the entries ``places`` of an axis of ``size``, zero elsewhere."""
    shape = list(value.shape)
    shape[axis] = size
    if value.is_contiguous():
        whole = value.new_zeros(shape)
    else:  # channels last
        whole = value.new_zeros([*shape[:axis], *shape[axis + 1 :], size]).movedim(-1, axis)
    return whole.index_copy(axis, places, value)


def zeroed(value: Tensor, layer: Layer, stays: IntArray | None) -> Tensor:
    """Return a layer's input with the channels that go set to zero."""
    if stays is None or len(stays) == layer.in_channels:
        return value
    axis = channel_axis(layer, value)
    gone = np.setdiff1d(np.arange(value.shape[axis]), stays)
    return value.index_fill(axis, torch.from_numpy(gone).to(value.device), 0)


def _per_group(rows: Tensor, groups: int, taps: int = 1) -> Tensor:
    """Split rows of ``taps`` runs of channels, (P, taps * g * c), into (g, P, taps * c)."""
    return rows.reshape(len(rows), taps, groups, -1).permute(2, 0, 1, 3).flatten(2) if groups > 1 else rows[None]
