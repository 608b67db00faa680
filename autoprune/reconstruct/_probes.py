"""What the error of one group's consumers does to the network's answers: each group pruned alone, all others whole.

Nothing is scored and no label is read: the divergence of the answers from the dense network's own, on a few images, tells how
much an error at each place matters (as the sensitivity curves of Han et al. 2015, section 4, by Hinton et al.'s softened
softmax, "Distilling the Knowledge in a Neural Network", 2015). Up to the group's first consumer all is as in the dense network,
so only the blocks from there on are run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoprune.evaluation import answers_divergence
from autoprune.groups import IntArray, Layer
from autoprune.model_guard import ModelInputs, as_inputs
from autoprune.reconstruct._layers import as_weight, run_layer
from autoprune.reconstruct._plan import Dense, Plan, as_it_is
from autoprune.reconstruct._sequential import in_channels_kept, narrowed, zeroed
from autoprune.reconstruct._statistics import Statistics, columns_kept
from autoprune.reconstruct._steps import Affine

ERROR = 0.2
"""Of the consumers' mean squared output: much less is lost in the answers' noise, with much more the answers say little else."""
CHUNK = 32  # images at a time: what goes into every block is held for so many


@dataclass(frozen=True, eq=False)
class Probes:
    """What pruning each group alone does to the answers.

    Attributes:
        divergences: Of the answers from the dense network's with one group pruned, shape (groups,).
        images: What was computed, in images through the dense network.
    """

    divergences: npt.NDArray[np.float64]
    images: float


class Prober:
    """Runs the dense network with one group pruned, whose consumers are refitted by their moments alone.

    Args:
        plan: The dense network's plan, which can be cut into blocks.
        statistics: Moments of the consumers.
        kept: For each group to probe its index and the channels that stay.
    """

    def __init__(self, plan: Plan, statistics: Statistics, kept: Sequence[tuple[int, IntArray]]) -> None:
        self._plan = plan
        self._statistics = statistics
        self._groups = [self._fits({index: units}) for index, units in kept]
        self._block_of = {
            step.layer.name: number
            for number, block in enumerate(plan.blocks)
            for step in plan.steps[slice(*block.steps)]
            if isinstance(step, Affine)
        }
        self._starts = [
            min((self._block_of[name] for name in fits if name in self._block_of), default=len(plan.blocks))
            for fits in self._groups
        ]

    def _fits(self, kept: Mapping[int, IntArray]) -> dict[str, _PrunedLayer]:
        found = {}
        for name, step in self._statistics.steps.items():
            layer = step.layer
            if not layer.reads_channels:
                continue
            stays = in_channels_kept(layer.in_group, layer.in_unit, kept)
            if len(stays) == layer.in_channels:
                continue
            if name not in self._statistics.moments:
                found[name] = _PrunedLayer(layer, stays, None, None)
                continue
            columns = torch.from_numpy(columns_kept(stays, layer.in_channels, layer.kernel))
            fit = self._statistics.refit(name, columns.to(self._statistics.images.device))
            found[name] = _PrunedLayer(layer, stays, as_weight(fit.weight, layer.kernel), fit.intercept.flatten())
        return found

    @property
    def passes(self) -> float:
        """What an image costs, in images through the dense network: once whole, and for each group what comes from there on."""
        layers = self._plan.graph.layers
        macs = np.zeros(len(self._plan.blocks) + 1)
        for layer in layers:
            macs[self._block_of.get(layer.name, len(self._plan.blocks))] += layer.macs
        behind = np.cumsum(macs[::-1])[::-1]
        return float((behind[0] + sum(behind[start] for start in self._starts)) / macs.sum())

    @torch.no_grad()
    def run(self, images: Tensor | ModelInputs) -> Probes:
        """Return the divergence of the answers to some images, each tensor (N, ...), from the dense network's."""
        totals = np.zeros(len(self._groups))
        for start in range(0, len(images), CHUNK):
            values = [as_inputs(images[start : start + CHUNK]).tensors]
            for block in self._plan.blocks:
                values.append(self._plan.run_block(block, values[-1], as_it_is))
            for group, (fits, first) in enumerate(zip(self._groups, self._starts, strict=True)):
                value = values[first]
                for block in self._plan.blocks[first:]:
                    value = self._plan.run_block(block, value, _Visit(fits))
                totals[group] += float(answers_divergence(value, values[-1])) * min(CHUNK, len(images) - start)
        # Rounding can make a divergence of nearly nothing negative.
        return Probes(np.maximum(totals, 0.0) / len(images), len(images) * self.passes)


@dataclass(frozen=True, eq=False)
class _PrunedLayer:
    """A layer that lost inputs: what stays, and its refitted weight and bias, None where it is not refitted."""

    layer: Layer
    stays: IntArray
    weight: Tensor | None
    bias: Tensor | None


class _Visit:
    def __init__(self, layers: Mapping[str, _PrunedLayer]) -> None:
        self._layers = layers

    def __call__(self, step: Affine, value: Tensor, other: Tensor | None, dense: Dense) -> Tensor:
        pruned = self._layers.get(step.layer.name)
        if pruned is None:
            return dense(value)
        if pruned.weight is None:
            return dense(zeroed(value, pruned.layer, pruned.stays))
        return run_layer(pruned.layer, narrowed(value, pruned.layer, pruned.stays), pruned.weight, pruned.bias)
