"""The pruning backend: channel counts in, kept channels and refitted tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoprune.groups import Group, IntArray
from autoprune.model_guard import ModelInputs, as_inputs
from autoprune.reconstruct._blocks import Descent, like
from autoprune.reconstruct._choice import Choice, named
from autoprune.reconstruct._dense import DenseInputs
from autoprune.reconstruct._effort import check_memory, images_that_fit, refit_macs, rows_that_fit, statistics_macs
from autoprune.reconstruct._plan import Plan
from autoprune.reconstruct._probes import ERROR, Prober, Probes
from autoprune.reconstruct._refit import CachedRefit, SequentialRefit
from autoprune.reconstruct._sequential import Refit
from autoprune.reconstruct._statistics import Statistics
from autoprune.select import Selection


class Backend:
    """Chooses channels and refits weights, on statistics of one set of calibration images.

    It puts together what can be made alone: `Statistics`, a `Choice` of channels, a `CachedRefit`, a `SequentialRefit`.

    Args:
        plan: The model's plan.
        decisions: The groups that policies decide, in order.
        images: Calibration images, each tensor (N, ...); as many are used as `images_that_fit`.
        selection: Which channels stay, or what another backend chose by its own statistics (`choice`).
        rows: Sampled output positions per layer; as many are used as `rows_that_fit`.
        seed: Seed of the positions.
        relu_iterations: How often a sequential refit solves for outputs that a rectifier cuts off.
        refit_on: Images, and positions per layer, of the sequential refits, where they are to be cheaper than the statistics
            that channels are chosen by; the moments of those then stand beside them, see `fit_affine`.
        descent: How the network is trained after the closed form of a sequential refit; None for not at all.
        train_on: Images for that; None for ``images``.
    """

    def __init__(
        self,
        plan: Plan,
        decisions: Sequence[Group],
        images: Tensor | ModelInputs,
        *,
        selection: Selection | Choice,
        rows: int,
        seed: int = 0,
        relu_iterations: int = 0,
        refit_on: tuple[int, int] | None = None,
        descent: Descent | None = None,
        train_on: Tensor | ModelInputs | None = None,
    ) -> None:
        self.graph = plan.graph
        self.decisions = tuple(decisions)
        self._plan, self._relu_iterations, self._descent = plan, relu_iterations, descent
        check_memory(plan.graph)
        images, rows = images[: images_that_fit(plan.graph)], rows_that_fit(plan.graph, rows)
        fewer = refit_on if refit_on is not None and refit_on[0] < len(images) else None
        needs = frozenset[str]() if isinstance(selection, Choice) else selection.needs
        wanted = frozenset(name for group in decisions for name in group.consumers if "moments" in needs)
        if fewer is not None:  # the moments of every layer stand beside what few images give
            wanted = frozenset(layer.name for layer in plan.graph.layers)
        self.statistics = self._refitted = Statistics(plan, images, rows=rows, seed=seed, moments_of=wanted)
        if fewer is not None:
            self._refitted = Statistics(plan, images[: fewer[0]], rows=min(rows, fewer[1]), seed=seed)
        self._dense = DenseInputs(self.statistics, self.decisions, seed=seed)
        self.choice = selection if isinstance(selection, Choice) else Choice(self._dense, self.decisions, selection)
        self._cached = CachedRefit(self.statistics)
        self._sequential = SequentialRefit(
            plan, self._refitted, None if fewer is None else self.statistics, relu_iterations, descent, train_on
        )
        self._trained_on = len(self._refitted.images if train_on is None else train_on)
        self._probed: tuple[npt.NDArray[np.float64], Probes] | None = None

    def keep(self, group: Group, count: int) -> IntArray:
        """Return the channels of ``group`` that stay when ``count`` do, ascending; remembered."""
        return self.choice.keep(group, count)

    def errors(self, group: Group) -> npt.NDArray[np.float64]:
        """Return the error that a group's consumers make for every count kept, shape (size + 1,); see `elimination`."""
        return self.choice.errors(group)

    def probe(self, images: Tensor | ModelInputs, *, most: float) -> tuple[npt.NDArray[np.float64], Probes] | None:
        """Prune each group alone to about the same error of its consumers, and measure what that does to the network's answers.

        The result is remembered.

        Args:
            images: Images for it, each tensor (N, ...), not necessarily those of the statistics.
            most: What it may compute, in images through the dense network; at least one image is run.

        Returns:
            The consumers' errors, shape (groups,), and what that does; None where the network cannot be cut into blocks.
        """
        if not self._plan.blocks or self._probed is not None:
            return self._probed
        kept, errors = self.choice.to_error(ERROR)
        prober = Prober(self._plan, self.statistics, kept)
        count = min(len(images), max(1, int(most / prober.passes)))
        inputs, places = as_inputs(images), torch.linspace(0, len(images) - 1, count, device=images.device).long()
        some = inputs[places]
        self._probed = errors, prober.run(ModelInputs(tuple(map(like, some.tensors, inputs.tensors))))
        return self._probed

    def slice_only(self, counts: Sequence[int]) -> Refit:
        """Choose channels, refit nothing."""
        return Refit(self._named(self.choice.of(counts)), {})

    def cached(self, counts: Sequence[int]) -> Refit:
        """Choose channels and refit every layer that lost inputs, to its own dense output, from moments alone."""
        kept = self.choice.of(counts)
        self.statistics.collect(self._dense.consuming)
        return Refit(self._named(kept), self._cached(kept))

    def sequential(self, counts: Sequence[int]) -> Refit:
        """Choose channels and refit all layers in order, each on what the pruned network really feeds it."""
        kept = self.choice.of(counts)
        return Refit(self._named(kept), self._sequential(kept))

    def refit_kept(self, kept: Mapping[str, IntArray]) -> Refit:
        """Refit sequentially to channels chosen elsewhere (a policy file), by group name."""
        by_index = {self.graph.group(name).index: np.asarray(units) for name, units in kept.items()}
        return Refit(dict(kept), self._sequential(by_index))

    @property
    def setup_macs(self) -> float:
        """Multiply-adds of the statistics: images through the dense network, and second moments."""
        return statistics_macs({id(some): some for some in (self.statistics, self._refitted)}.values())

    def refit_macs(self, widths: Sequence[int], *, forward: bool = True) -> float:
        """Return the multiply-adds of a refit: its images through the network, and the least squares.

        Args:
            widths: Input channels that stay of every layer of the graph, of one convolution group.
            forward: Whether images run through the network (a sequential refit), or the moments are there already (a cached one).
        """
        return refit_macs(self._refitted, widths, relu_iterations=self._relu_iterations, forward=forward)

    @property
    def descent_images(self) -> int:
        """Images that run forward and back through a pruned network after the closed form, and through the dense one."""
        return 0 if self._descent is None else self._descent.images(self._trained_on)

    def _named(self, kept: Mapping[int, IntArray]) -> dict[str, IntArray]:
        return named(self.graph.groups, kept)
