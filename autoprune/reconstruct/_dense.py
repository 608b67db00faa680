"""The dense network as selections see it: what a pass is needed for is run when a selection asks for it, and not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from autoprune.groups import Group, Layer, PruningGraph
from autoprune.model_guard import ModelInputs
from autoprune.reconstruct._gradients import gate_gradients
from autoprune.reconstruct._statistics import Statistics, column_units
from autoprune.select import Activations, Consumer


class DenseInputs:
    """A `autoprune.select.DenseNetwork` over statistics.

    Args:
        statistics: Of the dense network on the calibration images.
        groups: The groups that are decided: where one needs a pass, all of them are served by it.
        seed: Seed of what is drawn.
    """

    def __init__(self, statistics: Statistics, groups: Sequence[Group], *, seed: int = 0) -> None:
        self.statistics = statistics
        self._groups = tuple(groups)
        self._seed = seed
        self._gradients: dict[int, Tensor] = {}

    @property
    def graph(self) -> PruningGraph:
        """The coupling graph."""
        return self.statistics.plan.graph

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Parameters and buffers by name."""
        return self.statistics.plan.tensors

    @property
    def images(self) -> Tensor | ModelInputs:
        """The calibration images, each tensor (N, ...)."""
        return self.statistics.images

    @property
    def consuming(self) -> frozenset[str]:
        """Names of the layers that read the decided groups."""
        return frozenset(name for group in self._groups for name in group.consumers)

    def consumers(self, group: Group) -> tuple[Consumer, ...]:
        """Return the least-squares problems of the layers that read the group."""
        self.statistics.collect(self.consuming | set(group.consumers))
        return self.statistics.consumers(group)

    def activations(self, group: Group) -> tuple[Activations, ...]:
        """Return sampled inputs of the layers that read the group; a pass of its own, as they take much memory."""
        found: list[Activations] = []

        def see(layer: Layer, value: Tensor) -> None:
            rows = self.statistics.rows[layer.name]
            found.append(Activations(rows.inputs(value).clone(), column_units(layer, group, value.device)))

        names = [name for name in group.consumers if name in self.statistics.rows]
        self.statistics.visit_inputs([name for name in names if self.statistics.steps[name].layer.groups == 1], see)
        return tuple(found)

    def gradients(self, group: Group) -> Tensor:
        """Return for each of some images the loss's derivative by a factor on each of the group's channels."""
        if group.index not in self._gradients:
            groups = self._groups if group in self._groups else (*self._groups, group)
            self._gradients = gate_gradients(self.statistics.plan, groups, self.images, seed=self._seed)
        return self._gradients[group.index]
