"""The pruning backend: channel counts in, kept channels and refitted tensors out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import Group, IntArray, PruningGraph
from autoprune.reconstruct._blocks import Descent, like, refit_blocks
from autoprune.reconstruct._layers import restore
from autoprune.reconstruct._plan import Plan
from autoprune.reconstruct._probes import ERROR, Prober, Probes
from autoprune.reconstruct._sequential import Refit, Sequential, in_channels_kept, narrow_outputs
from autoprune.reconstruct._statistics import MAX_WIDTH, Statistics, block_count, columns_kept
from autoprune.select import Consumer, NestedSelection, OptimalBrainSurgeon, Selection, SelectionInputs, elimination

RIDGE = 3e-3
MAX_ACTIVATION_BYTES = 2**31
MAX_TARGET_BYTES = 2**30


class Backend:
    """Chooses channels and refits weights, on statistics of one set of calibration images.

    Args:
        plan: The model's plan.
        decisions: The groups that policies decide, in order.
        images: Calibration images, shape (N, ...); as many are used as ``MAX_ACTIVATION_BYTES`` of activations allow.
        selection: Which channels stay.
        rows: Sampled output positions per layer; as many are used as ``MAX_TARGET_BYTES`` of dense outputs there allow.
        seed: Seed of the positions.
        turns: How often a sequential refit solves for outputs that a rectifier cuts off.
        refit_on: Images, and positions per layer, of the sequential refits, where they are to be cheaper than the statistics
            that channels are chosen by; the moments of those then stand beside them, see `fit_affine`.
        descent: How blocks are trained after the closed form of a sequential refit; None for not at all.
    """

    def __init__(
        self,
        plan: Plan,
        decisions: Sequence[Group],
        images: Tensor,
        *,
        selection: Selection,
        rows: int,
        seed: int = 0,
        turns: int = 0,
        refit_on: tuple[int, int] | None = None,
        descent: Descent | None = None,
    ) -> None:
        self.graph: PruningGraph = plan.graph
        self.decisions = tuple(decisions)
        self.selection = selection
        images = images[: images_that_fit(plan.graph)]
        rows = min(rows, MAX_TARGET_BYTES // (4 * sum(layer.out_channels for layer in plan.graph.layers)))
        fewer = refit_on is not None and refit_on[0] < len(images)
        check_memory(plan.graph)
        readers = frozenset(name for group in decisions for name in group.consumers)
        every = frozenset(layer.name for layer in plan.graph.layers)
        self.statistics = Statistics(plan, images, rows=rows, seed=seed, moments_of=every if fewer else readers)
        self._refitted, self._known = self.statistics, None
        if refit_on is not None and fewer:
            self._refitted = Statistics(plan, images[: refit_on[0]], rows=min(rows, refit_on[1]), seed=seed)
            self._known = self.statistics
        self._plan = plan
        self._turns = turns
        self._descent = descent
        self._orders: dict[int, IntArray] = {}
        self._eliminated: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}
        self._kept: dict[tuple[int, int], IntArray] = {}
        self._fits: dict[tuple[str, bytes], dict[str, Tensor]] = {}
        self._probed: tuple[npt.NDArray[np.float64], Probes] | None = None

    def keep(self, group: Group, count: int) -> IntArray:
        """Return the channels of ``group`` that stay when ``count`` do, ascending; remembered."""
        if count >= group.size:
            return np.arange(group.size, dtype=np.int64)
        if isinstance(self.selection, NestedSelection):
            if group.index not in self._orders:
                self._orders[group.index] = (
                    self._elimination(group)[0]
                    if type(self.selection) is OptimalBrainSurgeon
                    else self.selection.order(self._evidence(group))
                )
            return np.sort(self._orders[group.index][group.size - count :])
        key = (group.index, count)
        if key not in self._kept:
            self._kept[key] = self.selection.keep(self._evidence(group), count)
        return self._kept[key]

    def errors(self, group: Group) -> npt.NDArray[np.float64]:
        """Return the error that a group's consumers make for every count kept, shape (size + 1,); see `elimination`."""
        return self._elimination(group)[1]

    def _elimination(self, group: Group) -> tuple[IntArray, npt.NDArray[np.float64]]:
        if group.index not in self._eliminated:
            self._eliminated[group.index] = elimination(self._evidence(group, moments=True))
        return self._eliminated[group.index]

    def probe(self, images: Tensor, *, most: float) -> tuple[npt.NDArray[np.float64], Probes] | None:
        """Prune each group alone to about the same error of its readers, and see what that does to the network's answers.

        What was seen is remembered.

        Args:
            images: Images for it, shape (N, ...), not necessarily those of the statistics.
            most: What it may compute, in images through the dense network; at least one image is run.

        Returns:
            The readers' errors, shape (groups,), and what was seen; None where the network cannot be cut into blocks.
        """
        if not self._plan.blocks or self._probed is not None:
            return self._probed
        kept, errors = [], []
        for group in self.decisions:
            curve = self.errors(group)[: group.size]
            count = max(1, int(np.abs(curve - ERROR).argmin()))
            kept.append((group.index, self.keep(group, count)))
            errors.append(float(curve[count]) if group.size > 1 else 0.0)
        prober = Prober(self._plan, self.statistics, kept, ridge=RIDGE)
        count = min(len(images), max(1, int(most / prober.passes)))
        some = images[torch.linspace(0, len(images) - 1, count, device=images.device).long()]
        self._probed = np.array(errors), prober.run(like(some, images))
        return self._probed

    def _evidence(self, group: Group, *, moments: bool = False) -> SelectionInputs:
        wanted = moments or "moments" in self.selection.needs
        consumers: tuple[Consumer, ...] = self.statistics.consumers(group) if wanted else ()
        producers = {layer.weight: layer for layer in self.graph.layers if layer.name in group.producers}
        magnitude = torch.zeros(group.size, dtype=torch.float64)
        for part in group.slices:
            if part.tensor in producers and part.dim == out_dim(producers[part.tensor].op):
                weight = self._plan.tensor_by_name(part.tensor).double().cpu()
                norms = weight.abs().sum(dim=[dim for dim in range(weight.dim()) if dim != part.dim])
                magnitude.index_add_(0, torch.from_numpy(part.unit), norms[torch.from_numpy(part.position)])
        return SelectionInputs(group.size, consumers, magnitude.to(self.statistics.images.device))

    def _choices(self, counts: Sequence[int]) -> dict[int, IntArray]:
        return {
            group.index: self.keep(group, count)
            for group, count in zip(self.decisions, counts, strict=True)
            if count < group.size
        }

    def slice_only(self, counts: Sequence[int]) -> Refit:
        """Choose channels, refit nothing."""
        return Refit(self._named(self._choices(counts)), {})

    def cached(self, counts: Sequence[int]) -> Refit:
        """Choose channels and refit every layer that lost inputs, to its own dense output, from moments alone.

        No image is touched; fits are remembered per (layer, kept inputs).
        """
        kept = self._choices(counts)
        tensors: dict[str, Tensor] = {}
        for name in self.statistics.moments:
            step = self.statistics.steps[name]
            stays = in_channels_kept(step.layer.in_group, step.layer.in_unit, kept)
            if len(stays) == step.layer.in_channels:
                continue
            key = (name, stays.tobytes())
            if key not in self._fits:
                columns = torch.from_numpy(columns_kept(stays, step.layer.in_channels, step.layer.kernel)).to(
                    self.statistics.images.device
                )
                fit = self.statistics.refit(name, columns, ridge=RIDGE)
                self._fits[key] = restore(self._plan, step, self.statistics.folded[name], fit)
            tensors.update(self._fits[key])
        return Refit(self._named(kept), narrow_outputs(self.graph, tensors, kept))

    def sequential(self, counts: Sequence[int]) -> Refit:
        """Choose channels and refit all layers in order, each on what the pruned network really feeds it."""
        kept = self._choices(counts)
        return Refit(self._named(kept), self._sequential(kept))

    def _sequential(self, kept: Mapping[int, IntArray]) -> dict[str, Tensor]:
        refits = Sequential(self._plan, self._refitted, kept, ridge=RIDGE, turns=self._turns, known=self._known)
        if self._descent is None or not self._plan.blocks:
            self._plan.run(self._refitted.images, refits.fit)
        else:
            refit_blocks(self._plan, refits, self._descent)
        return narrow_outputs(self.graph, refits.tensors, kept)

    @property
    def setup_macs(self) -> float:
        """Multiply-adds of the statistics: images through the dense network, and second moments."""
        found = {id(some): some for some in (self.statistics, self._refitted)}.values()
        total = float(sum(len(some.images) for some in found) * sum(layer.macs for layer in self.graph.layers))
        for name, moments in self.statistics.moments.items():
            rows = len(self.statistics.rows[name].index[0])
            total += rows * sum(len(columns) ** 2 for columns in moments.columns)
        return total

    def refit_macs(self, widths: Sequence[int], *, forward: bool = True) -> float:
        """Return the multiply-adds of a refit: its images through the network, and the least squares.

        Args:
            widths: Input channels that stay of every layer of the graph, of one convolution group.
            forward: Whether images run through the network (a sequential refit), or the moments are there already (a cached one).
        """
        total, lost = 0.0, False
        for layer, width in zip(self.graph.layers, widths, strict=True):
            dense_width = layer.in_channels // layer.groups
            if forward:
                total += len(self._refitted.images) * layer.macs * width / dense_width
            lost = lost or width < dense_width
            if layer.name not in self._refitted.rows or not (lost if forward else width < dense_width):
                continue
            columns, outputs = width * math.prod(layer.kernel), layer.out_channels // layer.groups
            rows = len(self._refitted.rows[layer.name].index[0]) if forward else 0
            turns = self._turns if self._refitted.steps[layer.name].flat is not None else 0
            products = rows * (columns + (1 + 2 * turns) * outputs) + columns * (columns / 3 + (1 + turns) * outputs)
            total += layer.groups * columns * products
        return total

    @property
    def descent_images(self) -> int:
        """Images that run forward and back through every block of a pruned network after the closed form."""
        return (
            0 if self._descent is None else self._descent.steps * min(self._descent.batch, len(self._refitted.images))
        )

    def refit_kept(self, kept: Mapping[str, IntArray]) -> Refit:
        """Refit sequentially to channels chosen elsewhere (a policy file), by group name."""
        by_index = {self.graph.group(name).index: np.asarray(units) for name, units in kept.items()}
        return Refit(dict(kept), self._sequential(by_index))

    def _named(self, kept: Mapping[int, IntArray]) -> dict[str, IntArray]:
        return {self.graph.groups[index].name: units for index, units in kept.items()}


def out_dim(op: str) -> int:
    """Return the weight dimension of the output channels."""
    return 1 if op == "conv_transpose" else 0


def affordable_rows(graph: PruningGraph, images: int) -> int:
    """Return how many sampled rows a layer's moments may take for a quarter of a dense pass over ``images`` images.

    XᵀX of d inputs costs d² a row. Between 2000 (fewer fit badly) and 8000 (more rank no better) whatever the network.
    """
    widths = [layer.in_channels // layer.groups * math.prod(layer.kernel) for layer in graph.layers]
    macs = sum(layer.macs for layer in graph.layers)
    return int(min(8000, max(2000, macs * images / 4 / max(1, sum(width * width for width in widths)))))


def images_that_fit(graph: PruningGraph) -> int:
    """Return how many images a pass may hold at once: three of the largest layer's inputs and outputs in 2 GiB."""
    largest = max((math.prod(layer.in_shape[1:]) + math.prod(layer.out_shape[1:]) for layer in graph.layers), default=1)
    return max(16, MAX_ACTIVATION_BYTES // (3 * 4 * largest))


def check_memory(graph: PruningGraph) -> None:
    """Refuse layers whose statistics do not fit into half of this machine's memory.

    The second moments of d inputs, their inverse and the factor of both take about 28 d² bytes while channels are chosen.

    Raises:
        UsageError: if they do not; names the layer, how much it takes and what to do.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return
    for layer in graph.layers:
        width = layer.in_channels // layer.groups * math.prod(layer.kernel)
        blocks = 1 if width <= MAX_WIDTH else block_count(layer)
        needed = 28 * math.ceil(width / blocks) ** 2
        if needed > there / 2:
            raise UsageError(
                f"The layer '{layer.name}' has {width:,} inputs, whose second moments take {needed / 1e9:.1f} GB to choose "
                f"channels by, more than half of this machine's {there / 1e9:.1f} GB; run on a machine with more memory."
            )
