"""What a selection is given of one group: the kinds of input that it names, each collected by one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import Group, PruningGraph
from autoprune.model_guard import ModelInputs
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
class Activations:
    """Inputs of one consuming layer at sampled output positions of the calibration images.

    Attributes:
        values: One row a position: all kernel taps of it, shape (P, d).
        unit: For each of the d inputs the group's channel it belongs to, -1 where it belongs to another group, int64 (d,).
    """

    values: Tensor
    unit: Tensor


class DenseNetwork(Protocol):
    """The network before pruning, as the functions see it that collect inputs; what takes a pass is run when it is asked for."""

    @property
    def graph(self) -> PruningGraph:
        """Its coupling graph."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its parameters and buffers by name."""

    @property
    def images(self) -> Tensor | ModelInputs:
        """The calibration images, each tensor (N, ...), on the device where inputs are wanted."""

    def consumers(self, group: Group) -> tuple[Consumer, ...]:
        """Return the least-squares problems of the layers that read the group; none where nothing reads it linearly."""

    def activations(self, group: Group) -> tuple[Activations, ...]:
        """Return sampled inputs of the layers that read the group."""

    def gradients(self, group: Group) -> Tensor:
        """Return for each of some images the loss's derivative by a factor on each of the group's channels, shape (N, size)."""


Collect = Callable[[DenseNetwork, Group], Any]
input_kinds: Registry[Collect] = Registry("kind of selection input", "autoprune.selection_inputs")
"""What selections may name in ``needs``, each with the function that collects it for one group."""


@dataclass(frozen=True, eq=False)
class SelectionInputs:
    """What is given of one coupling group when its channels are chosen: ``inputs["magnitude"]``.

    Attributes:
        size: Number of channels.
        values: What was collected, by kind; what each is tells the function of that name in `autoprune.select.input_kinds`.
    """

    size: int
    values: Mapping[str, Any]

    def __getitem__(self, kind: str) -> Any:
        """Return one kind of input.

        Raises:
            UsageError: if the selection did not name it.
        """
        if kind not in self.values:
            raise UsageError(
                f"A selection reads the input '{kind}', which it does not name in `needs`; it names: "
                f"{', '.join(sorted(self.values)) or 'none'}."
            )
        return self.values[kind]
