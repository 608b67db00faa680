"""What one pass of the dense network over the calibration images leaves behind.

Per layer: second moments XᵀX of its im2col inputs at sampled output positions, and the dense outputs there, which the
sequential refit takes as targets. Memory: 4·d² bytes a layer for d = in_channels · kernel up to ``MAX_WIDTH``; above it, one
block of in_channels² per kernel tap (or per position flattened into a Linear), so VGG-16's 25088² never exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune.groups import Group, IntArray, Layer
from autoprune.model_guard import ModelInputs, as_inputs
from autoprune.reconstruct._layers import Folded, as_columns, fold, run_layer
from autoprune.reconstruct._lstsq import RIDGE, Fit
from autoprune.reconstruct._plan import Dense, Plan
from autoprune.reconstruct._rows import Rows, sample_rows
from autoprune.reconstruct._steps import Affine
from autoprune.select import Consumer
from autoprune.support.cholesky import cholesky

MAX_WIDTH = 2304
MAX_ROW_BYTES = 2**29  # of one layer's sampled inputs


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of a layer's inputs (centred where the layer has an intercept).

    Attributes:
        mean: Shape (d,).
        columns: For each block the columns it covers; one block with all of them unless d is above ``MAX_WIDTH``.
        grams: For each block XᵀX / samples, float32 (b, b).
    """

    mean: Tensor
    columns: tuple[Tensor, ...]
    grams: tuple[Tensor, ...]


def collect_moments(layer: Layer, inputs: Tensor, *, centred: bool, max_width: int = MAX_WIDTH) -> Moments:
    """Return the moments of ``inputs`` (P, d)."""
    width = inputs.shape[1]
    mean = inputs.mean(dim=0)
    values = inputs - mean if centred else inputs
    blocks = 1 if width <= max_width else block_count(layer)
    every = torch.arange(width, device=inputs.device)
    # A Linear's columns are channels flattened with their positions, a convolution's run tap by tap.
    flat = layer.op == "linear"
    columns = tuple(every[start::blocks] for start in range(blocks)) if flat else every.chunk(blocks)
    grams = tuple((part.T @ part) / len(part) for part in (values[:, column] for column in columns))
    return Moments(mean, columns, grams)


def block_count(layer: Layer) -> int:
    """Return into how many blocks a wide layer's columns fall: its kernel taps, or the positions of a flattened map."""
    if layer.op != "linear":
        return math.prod(layer.kernel)
    grouped = layer.in_group >= 0
    if not grouped.any():
        return 1
    first = (layer.in_group == layer.in_group[grouped][0]) & (layer.in_unit == layer.in_unit[grouped][0])
    return int(first.sum()) if layer.in_channels % int(first.sum()) == 0 else 1


class Statistics:
    """Statistics of the dense network on calibration images, by layer name.

    Args:
        plan: The model's plan.
        images: Calibration images, each tensor (N, ...).
        rows: Sampled positions per layer, at most; at least twice the layer's width are taken where the images have them.
        seed: Seed of the positions.
        moments_of: Names of the layers whose input moments are wanted at once; those of others take another pass, see `collect`.
        max_width: Widest layer whose moments are kept as one matrix.
    """

    def __init__(
        self,
        plan: Plan,
        images: Tensor | ModelInputs,
        *,
        rows: int,
        seed: int,
        moments_of: frozenset[str] = frozenset(),
        max_width: int = MAX_WIDTH,
    ) -> None:
        self.plan = plan
        self.images = images
        self.rows: dict[str, Rows] = {}
        self.folded: dict[str, Folded] = {}
        self.targets: dict[str, Tensor] = {}
        self.moments: dict[str, Moments] = {}
        self._answers: dict[str, Tensor] = {}
        self._max_width = max_width
        self.steps: dict[str, Affine] = {step.layer.name: step for step in plan.steps if isinstance(step, Affine)}
        generator = torch.Generator().manual_seed(seed)

        def visit(step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
            layer = step.layer
            if not step.refit:
                return dense(value)
            width = layer.in_channels // layer.groups * math.prod(layer.kernel)
            limit = min(max(rows, 2 * width), MAX_ROW_BYTES // (4 * width * layer.groups))
            chosen = sample_rows(layer, len(images), limit=limit, generator=generator, device=images.device)
            folded = fold(plan, step)
            result = run_layer(layer, value, folded.weight, folded.bias)
            target = chosen.outputs(result)
            self.rows[layer.name], self.folded[layer.name] = chosen, folded
            self.targets[layer.name] = target if other is None else target + chosen.outputs(other)
            if layer.name in moments_of:
                self._collect(layer, value)
            return result

        plan.run(images, visit)

    def _collect(self, layer: Layer, value: Tensor) -> None:
        if layer.groups == 1:
            inputs = self.rows[layer.name].inputs(value)
            self.moments[layer.name] = collect_moments(
                layer, inputs, centred=self.folded[layer.name].intercept, max_width=self._max_width
            )

    def collect(self, layers: Iterable[str]) -> None:
        """Collect the input moments of further layers, in a pass of the dense network where some are not there yet.

        They are what the first pass would have collected, to the bit. Convolutions of several groups have none.

        Args:
            layers: Their names.
        """
        missing = {name for name in layers if name in self.rows and self.steps[name].layer.groups == 1}
        missing -= self.moments.keys()
        if missing:
            self.visit_inputs(missing, self._collect)

    def visit_inputs(self, layers: Collection[str], see: Callable[[Layer, Tensor], None]) -> None:
        """Run the dense network over the calibration images, and show what goes into some of its refitted layers.

        Args:
            layers: Their names.
            see: Called as ``see(layer, value)``.
        """

        def visit(step: Affine, value: Tensor, _other: Tensor | None, dense: Dense) -> Tensor:
            if not step.refit:
                return dense(value)
            if step.layer.name in layers:
                see(step.layer, value)
            folded = self.folded[step.layer.name]
            return run_layer(step.layer, value, folded.weight, folded.bias)

        self.plan.run(self.images, visit)

    @property
    def size_bytes(self) -> int:
        """Bytes held: moments, targets and calibration images."""
        tensors = [gram for moments in self.moments.values() for gram in moments.grams]
        held = [*tensors, *self.targets.values(), *as_inputs(self.images).tensors]
        return sum(t.numel() * t.element_size() for t in held)

    def consumers(self, group: Group) -> tuple[Consumer, ...]:
        """Return the least-squares problems that read the group's channels, on the dense network, by the moments there are.

        With several consuming layers only the group's own inputs enter each problem: what the others could compensate is
        second-order, and a DenseNet's 30 consumers of 1000 inputs would cost minutes.
        """
        names = [name for name in group.consumers if name in self.moments]
        return tuple(
            consumer
            for name in names
            for consumer in as_consumers(
                self.steps[name].layer, self.moments[name], self.folded[name], group, own_only=len(names) > 1
            )
        )

    def of_kept(self, layer: Layer, stays: IntArray | None) -> tuple[Tensor, Tensor] | None:
        """Return mean XᵀX of the columns of the input channels that stay, and mean XᵀY with the layer's own output.

        Args:
            layer: The layer.
            stays: Input channels that stay, None for all.

        Returns:
            Shapes (1, k, k) and (1, k, out); None where there is no such matrix (several convolution groups, very wide layers).
        """
        moments = self.moments.get(layer.name)
        if moments is None or len(moments.grams) > 1:
            return None
        if layer.name not in self._answers:
            self._answers[layer.name] = moments.grams[0] @ as_columns(layer, self.folded[layer.name].weight)[0]
        gram, answers = moments.grams[0], self._answers[layer.name]
        if stays is not None and len(stays) < layer.in_channels:
            columns = torch.from_numpy(columns_kept(stays, layer.in_channels, layer.kernel)).to(gram.device)
            gram, answers = gram[columns][:, columns], answers[columns]
        return gram[None], answers[None]

    def refit(self, name: str, keep: Tensor, *, ridge: float = RIDGE) -> Fit:
        """Refit a layer to its own dense output from the input columns ``keep`` alone, touching no image.

        Args:
            name: Layer with moments.
            keep: Columns that stay, ascending, shape (k,).
            ridge: Relative pull towards the original weights.
        """
        moments, folded, layer = self.moments[name], self.folded[name], self.steps[name].layer
        prior = as_columns(layer, folded.weight)[0].double()  # (d, out)
        weight = torch.zeros_like(prior)
        second = torch.zeros(prior.shape[1], dtype=torch.float64, device=prior.device)
        kept = torch.zeros(len(prior), dtype=torch.bool, device=prior.device)
        kept[keep] = True
        for columns, gram32 in zip(moments.columns, moments.grams, strict=True):
            stays, gram = kept[columns], gram32.double()
            inner = gram[stays][:, stays]
            damping = ridge * inner.diagonal().mean().clamp(min=1e-12) if len(inner) else 0.0
            lost = gram[stays][:, ~stays] @ prior[columns[~stays]]
            factor = cholesky(inner, damping, what="A layer's weights")
            part = prior[columns[stays]] + torch.cholesky_solve(lost, factor)
            weight[columns[stays]] = part
            second += (part * (inner @ part)).sum(dim=0)
        mean = moments.mean.double()
        intercept = folded.bias.double()
        if folded.intercept:
            intercept = intercept + mean @ (prior - weight)
            variance = second
        else:
            variance = (second - (mean @ weight).square()).clamp(min=0)
        dtype = folded.weight.dtype
        part = weight[keep].to(dtype)
        fitted = (moments.mean[keep][None, None] @ part[None])[:, 0]
        return Fit(part[None], intercept[None].to(dtype), fitted, variance[None].to(dtype))


def columns_kept(stays: IntArray, channels: int, kernel: tuple[int, ...]) -> IntArray:
    """Return the least-squares columns of those of ``channels`` input channels that stay."""
    return (np.arange(math.prod(kernel))[:, None] * channels + stays).ravel()


def column_units(layer: Layer, group: Group, device: torch.device) -> Tensor:
    """Return for each least-squares column the group's channel it belongs to, -1 for others, shape (d,)."""
    unit = torch.from_numpy(layer.in_unit).to(device).clone()
    unit[torch.from_numpy(layer.in_group).to(device) != group.index] = -1
    return unit.repeat(math.prod(layer.kernel))


def as_consumers(layer: Layer, moments: Moments, folded: Folded, group: Group, *, own_only: bool) -> list[Consumer]:
    """Return one Consumer per block of the layer's moments that holds channels of the group."""
    unit = column_units(layer, group, moments.mean.device)
    weight = as_columns(layer, folded.weight)[0].double()
    found = []
    for columns, gram in zip(moments.columns, moments.grams, strict=True):
        part = unit[columns]
        chosen = part >= 0 if own_only else torch.ones_like(part, dtype=torch.bool)
        if bool((part >= 0).any()):
            found.append(Consumer(gram[chosen][:, chosen].double(), weight[columns[chosen]], part[chosen]))
    return found
