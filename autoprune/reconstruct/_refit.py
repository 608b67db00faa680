"""The two refits of a pruned network: from moments alone, and layer by layer on its own inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from autoprune.groups import IntArray
from autoprune.model_guard import ModelInputs
from autoprune.reconstruct._blocks import Descent, refit_blocks
from autoprune.reconstruct._layers import restore
from autoprune.reconstruct._plan import Plan
from autoprune.reconstruct._sequential import Sequential, in_channels_kept, narrow_outputs
from autoprune.reconstruct._statistics import Statistics, columns_kept


class CachedRefit:
    """Refits every layer that lost inputs to its own dense output, from the moments there are; it touches no image.

    Fits are remembered per (layer, kept inputs).

    Args:
        statistics: Of the dense network, with the moments of the layers to refit.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._fits: dict[tuple[str, bytes], dict[str, Tensor]] = {}

    def __call__(self, kept: Mapping[int, IntArray]) -> dict[str, Tensor]:
        """Return the tensors of a network that keeps these channels of each group, in their small shapes."""
        tensors: dict[str, Tensor] = {}
        for name in self._statistics.moments:
            layer = self._statistics.steps[name].layer
            stays = in_channels_kept(layer.in_group, layer.in_unit, kept)
            if len(stays) == layer.in_channels:
                continue
            key = (name, stays.tobytes())
            if key not in self._fits:
                self._fits[key] = self._fit(name, stays)
            tensors.update(self._fits[key])
        return narrow_outputs(self._statistics.plan.graph, tensors, kept)

    def _fit(self, name: str, stays: IntArray) -> dict[str, Tensor]:
        statistics, step = self._statistics, self._statistics.steps[name]
        columns = torch.from_numpy(columns_kept(stays, step.layer.in_channels, step.layer.kernel))
        fit = statistics.refit(name, columns.to(statistics.images.device))
        return restore(statistics.plan, step, statistics.folded[name], fit)


class SequentialRefit:
    """Refits all layers in order, each on what the pruned network really feeds it (`Sequential`), then all together.

    Args:
        plan: The dense network's plan.
        statistics: Rows and targets of the dense network on the images of the refit.
        prior: Statistics on more images, whose moments stand beside those; None for none.
        relu_iterations: How often outputs that a rectifier cuts off are solved for.
        descent: How the network is trained after the closed form; None for not at all.
        train_on: Images for that, each tensor (N, ...); None for those of the statistics.
    """

    def __init__(
        self,
        plan: Plan,
        statistics: Statistics,
        prior: Statistics | None = None,
        relu_iterations: int = 0,
        descent: Descent | None = None,
        train_on: Tensor | ModelInputs | None = None,
    ) -> None:
        self._plan = plan
        self._statistics, self._prior = statistics, prior
        self._train_on = statistics.images if train_on is None else train_on
        self._relu_iterations, self._descent = relu_iterations, descent

    def __call__(self, kept: Mapping[int, IntArray]) -> dict[str, Tensor]:
        """Return the tensors of a network that keeps these channels of each group, in their small shapes."""
        refits = Sequential(
            self._plan, self._statistics, kept, relu_iterations=self._relu_iterations, prior=self._prior
        )
        if self._descent is None or not self._plan.blocks:
            self._plan.run(self._statistics.images, refits.fit)
        else:
            refit_blocks(self._plan, refits, self._train_on, self._descent)
        return narrow_outputs(self._plan.graph, refits.tensors, kept)
