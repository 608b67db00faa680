"""Which group and channel every label belongs to, once the groups are known, and what is counted by them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from autoprune.graph._call import concrete
from autoprune.graph._labels import compress, core
from autoprune.graph._macs import MacCounter
from autoprune.graph._propagation import Propagation
from autoprune.graph._trace import Traced
from autoprune.graph._walk import op_name
from autoprune.groups import Extent, Group, IntArray, Product, Statistic, ValueChannels

Elements = tuple[Extent, ...] | None


class Owners:
    """Group and channel of every label.

    Args:
        root: For each label the one that stands for its set.
        group: For each root its group's index, -1 where it is in none.
        unit: For each root the channel in the group.
        groups: The groups; what belongs to one that cannot be pruned is counted as fixed.
    """

    def __init__(self, root: IntArray, group: IntArray, unit: IntArray, groups: Sequence[Group]) -> None:
        self._root = root
        self._group = group
        self._unit = unit
        self._sizes = [group.size if group.reason is None else 0 for group in groups]

    def __call__(self, labels: IntArray) -> tuple[IntArray, IntArray]:
        """Return group and channel of each label, -1 where it is in none."""
        roots = self._root[labels]
        return self._group[roots], self._unit[roots]

    def extent(self, labels: IntArray, times: int = 1) -> Extent | None:
        """Return how many there are of what the labels stand for, ``times`` each; None if channels own differing numbers."""
        group, unit = self(labels.ravel())
        owned: list[tuple[int, int]] = []
        fixed = group.size
        for index in np.unique(group[group >= 0]).tolist():
            if self._sizes[index]:
                counts = np.bincount(unit[group == index], minlength=self._sizes[index])
                if (counts != counts[0]).any():
                    return None
                owned.append((index, int(counts[0]) * times))
                fixed -= int(counts.sum())
        return Extent(fixed * times, tuple(owned))

    def statistics(self, traced: Traced, p: Propagation) -> tuple[Statistic, ...]:
        """Return the means and the like over channels."""
        calls = _numbered(traced)
        return tuple(
            Statistic(node.name, call.op, dim, *self(labels), calls[node])
            for node, (call, dim, labels) in p.statistics.items()
        )

    def products(self, traced: Traced, p: Propagation, counter: MacCounter) -> tuple[Product, ...]:
        """Return the calls that multiply but are no layers."""
        calls = _numbered(traced)
        found = []
        for node, call in p.products.items():
            extents = [self.extent(labels) for labels in call.dims]
            assert None not in extents  # each dimension takes part in telling channels apart
            own = tuple(extent for extent in extents if extent is not None and extent.owned)
            common = (node.name, op_name(node.target), calls[node], counter.product(node), own)
            if call.reads is None:
                found.append(Product(*common))
            else:
                operand, dim, labels = call.reads
                found.append(Product(*common, operand, dim, *self(labels)))
        return tuple(found)

    def channels(self, p: Propagation) -> dict[str, ValueChannels]:
        """Return the channels of the tensors that the nodes make, where they lie along one dimension."""
        known: dict[int, ValueChannels | None] = {}
        found: dict[str, ValueChannels] = {}
        for node, labels in p.values.items():
            if node.op != "call_function" or not isinstance(labels, Tensor) or not labels.dim():
                continue
            if id(labels) not in known:
                small = core(compress(torch.from_numpy(self._root[core(labels).numpy()])))
                dims = [dim for dim in range(small.dim()) if small.size(dim) > 1] or [0]
                one = len(dims) == 1
                known[id(labels)] = ValueChannels(dims[0], *self(small.numpy().ravel())) if one else None
            if (channels := known[id(labels)]) is not None:
                found[node.name] = channels
        return found

    def elements(self, p: Propagation) -> dict[str, tuple[Elements, ...]]:
        """Return how many elements the tensors have that the nodes make."""
        known: dict[int, Extent | None] = {}
        along: dict[tuple[str, ...], dict[int, tuple[bool, bool]]] = {}
        found: dict[str, tuple[Elements, ...]] = {}
        for weight in p.computed.values():
            shape = concrete(weight.source.meta["val"].shape)
            slots = [p.slots.get((p.tensors[weight.source], dim)) for dim in (0, 1)]
            sides = [
                Extent(size) if slot is None else self.extent(np.arange(slot[0], sum(slot)))
                for slot, size in zip(slots, shape, strict=False)
            ]
            form = weight.form
            if form not in along:
                along[form] = weight.lies_along()
            for place, lies in along[form].items():
                own = [side for side, yes in zip(sides, lies, strict=True) if yes]
                found[weight.nodes[place].name] = (
                    None if None in own else tuple(side for side in own if side is not None),
                )
        for node, value in p.values.items():
            if node.op != "call_function":
                continue
            extents: list[Elements] = []
            for labels in value if isinstance(value, (list, tuple)) else [value]:
                if not isinstance(labels, Tensor):
                    continue
                if id(labels) not in known:
                    small = core(labels)
                    known[id(labels)] = self.extent(small.numpy(), labels.numel() // max(small.numel(), 1))
                extent = known[id(labels)]
                extents.append(None if extent is None else (extent,))
            if extents and node.name not in found:
                found[node.name] = tuple(extents)
        return found


def _numbered(traced: Traced) -> dict[Node, int]:
    """Return for every call how many of the same operator come before it."""
    counts: dict[str, int] = defaultdict(int)
    numbers = {}
    for node in traced.program.graph.nodes:
        if node.op == "call_function":
            name = op_name(node.target)
            numbers[node] = counts[name]
            counts[name] += 1
    return numbers
