"""Which indices of which tensor stay, for any choice of channels: the part of surgery that is the graph's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoprune.errors import UsageError
from autoprune.groups import CallArgument, Group, IntArray, ModuleSize, PruningGraph

Kept = Mapping[str, IntArray]
"""Group name -> sorted numbers of the channels kept; groups left out stay whole."""

Stays = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Cut:
    """One dimension of one tensor.

    Attributes:
        dim: The dimension that shrinks.
        pattern: Number of its pattern in ``IndexPlan``; tensors cut alike (a convolution and its norm) share one.
    """

    dim: int
    pattern: int


class IndexPlan:
    """The channels of every index of every tensor that a graph can shrink.

    All units of all groups are numbered through; each cut dimension is an array that gives the unit of each of its
    indices, and the number one past the last unit where an index belongs to no group and always stays.

    Args:
        graph: The coupling graph.
        shapes: Shape of every parameter and buffer that the graph names.
    """

    def __init__(self, graph: PruningGraph, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.groups: dict[str, Group] = {group.name: group for group in graph.groups}
        self.cuts: dict[str, tuple[_Cut, ...]] = {}
        self._offset: dict[str, int] = {}
        total = 0
        for group in graph.groups:
            self._offset[group.name] = total
            total += group.size
        offsets = np.array([self._offset[group.name] for group in graph.groups], dtype=np.int64)
        self._total = total
        self._sizes = [(size, np.where(size.group < 0, total, offsets[size.group] + size.unit)) for size in graph.sizes]
        self._calls = [(call, np.where(call.group < 0, total, offsets[call.group] + call.unit)) for call in graph.calls]
        self.patterns: list[IntArray] = self._build(graph, shapes)

    def _build(self, graph: PruningGraph, shapes: Mapping[str, tuple[int, ...]]) -> list[IntArray]:
        owners: dict[tuple[str, int], IntArray] = {}
        for group in graph.groups:
            for piece in group.slices:
                if piece.tensor not in shapes:
                    raise UsageError(
                        f"The coupling graph names the tensor '{piece.tensor}', which this model does not have; "
                        "build the graph from this model."
                    )
                shape = shapes[piece.tensor]
                if piece.dim >= len(shape) or int(piece.position.max(initial=-1)) >= shape[piece.dim]:
                    raise _mismatch(piece.tensor, shape)
                key = (piece.tensor, piece.dim)
                if key not in owners:
                    owners[key] = np.full(shape[piece.dim], self._total, dtype=np.int64)
                owners[key][piece.position] = self._offset[group.name] + piece.unit
        patterns: dict[bytes, int] = {}
        arrays: list[IntArray] = []
        cuts: dict[str, list[_Cut]] = {}
        for (tensor, dim), owner in sorted(owners.items(), key=lambda item: item[0]):
            number = patterns.setdefault(owner.tobytes(), len(arrays))
            if number == len(arrays):
                arrays.append(owner)
            cuts.setdefault(tensor, []).append(_Cut(dim, number))
        self.cuts = {tensor: tuple(found) for tensor, found in cuts.items()}
        return arrays

    def check(self, tensor: str, shape: tuple[int, ...]) -> None:
        """Raise UsageError unless the tensor has the size that the graph was built on."""
        for cut in self.cuts[tensor]:
            if cut.dim >= len(shape) or shape[cut.dim] != self.patterns[cut.pattern].size:
                raise _mismatch(tensor, shape)

    def stays(self, kept: Kept) -> Stays:
        """Return for every unit, and once more for what belongs to no group, whether it stays.

        Raises:
            UsageError: for a group that does not exist or may not be pruned, and for channels that are none, out of
                range, not sorted or repeated.
        """
        stays: npt.NDArray[np.bool_] = np.ones(self._total + 1, dtype=np.bool_)
        for name, units in kept.items():
            group = self.groups.get(name)
            if group is None:
                raise UsageError(f"There is no channel group '{name}' in this model; `autoprune inspect` lists them.")
            chosen = _checked(group, units)
            offset = self._offset[name]
            stays[offset : offset + group.size] = False
            stays[offset + chosen] = True
        return stays

    def indices(self, stays: Stays) -> list[Tensor | None]:
        """Return per pattern the indices that stay, ascending, int64 on the CPU; None where all do."""
        result: list[Tensor | None] = []
        for pattern in self.patterns:
            mask = stays[pattern]
            result.append(None if mask.all() else torch.from_numpy(np.flatnonzero(mask)))
        return result

    def sizes(self, stays: Stays) -> list[tuple[ModuleSize, int]]:
        """Return the attributes that count channels of which some go, with what they then have to say."""
        counted = [(size, int(stays[owner].sum())) for size, owner in self._sizes]
        return [(size, count) for size, count in counted if count < len(size.unit)]

    def calls(self, stays: Stays) -> list[tuple[CallArgument, int | list[int]]]:
        """Return the arguments of calls that count channels, with what they have to be.

        All of them: the code may compute one from other channels than it counts.
        """
        return [(call, _left(call, stays[owner])) for call, owner in self._calls]


def _left(call: CallArgument, stays: Stays) -> int | list[int]:
    if call.kind == "count":
        return call.sign * int(stays.sum())
    place = np.concatenate([[0], np.cumsum(stays)])
    if call.kind == "pieces":
        found: list[int] = np.diff(place[call.at], prepend=0).tolist()
        return found
    picked: list[int] = place[call.at[stays[call.at]]].tolist()
    return picked


def _checked(group: Group, units: IntArray) -> IntArray:
    chosen = np.asarray(units, dtype=np.int64)
    if chosen.ndim != 1 or chosen.size == 0:
        raise UsageError(f"Group '{group.name}' must keep at least one of its {group.size} channels, got none.")
    if chosen[0] < 0 or chosen[-1] >= group.size or (chosen[1:] <= chosen[:-1]).any():
        raise UsageError(
            f"The channels kept of group '{group.name}' must be distinct, ascending numbers in 0..{group.size - 1}, "
            f"got {chosen.tolist()[:8]}."
        )
    if group.reason is not None and chosen.size != group.size:
        raise UsageError(f"Group '{group.name}' cannot be pruned: {group.reason}")
    return chosen


def _mismatch(tensor: str, shape: tuple[int, ...]) -> UsageError:
    return UsageError(
        f"The tensor '{tensor}' of shape {tuple(shape)} does not have the size it had when the coupling graph was "
        "built; build the graph from this model."
    )


_plans: WeakKeyDictionary[PruningGraph, IndexPlan] = WeakKeyDictionary()


def plan_for(graph: PruningGraph, tensors: Mapping[str, Tensor]) -> IndexPlan:
    """Return the graph's index plan, built on first use and kept as long as the graph lives."""
    plan = _plans.get(graph)
    if plan is None:
        plan = IndexPlan(graph, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
        _plans[graph] = plan
    return plan
