"""Which channels of each group stay for how many, and what error that leaves: asked of a selection once and remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autoprune.groups import Group, IntArray
from autoprune.select import DenseNetwork, NestedSelection, OptimalBrainSurgeon, Selection, collect, elimination


class Choice:
    """The channels that a selection keeps.

    Args:
        network: The dense network, of which only what is needed is collected.
        groups: The groups that policies decide, in order.
        selection: Which channels stay.
    """

    def __init__(self, network: DenseNetwork, groups: Sequence[Group], selection: Selection) -> None:
        self._network = network
        self._groups = tuple(groups)
        self._selection = selection
        self._orders: dict[int, IntArray] = {}
        self._eliminated: dict[int, tuple[IntArray, npt.NDArray[np.float64]]] = {}
        self._kept: dict[tuple[int, int], IntArray] = {}

    def keep(self, group: Group, count: int) -> IntArray:
        """Return the channels of ``group`` that stay when ``count`` do, ascending."""
        if count >= group.size:
            return np.arange(group.size, dtype=np.int64)
        if isinstance(self._selection, NestedSelection):
            if group.index not in self._orders:
                self._orders[group.index] = self._order(self._selection, group)
            return np.sort(self._orders[group.index][group.size - count :])
        key = (group.index, count)
        if key not in self._kept:
            self._kept[key] = self._selection.keep(collect(self._network, group, self._selection.needs), count)
        return self._kept[key]

    def _order(self, selection: NestedSelection, group: Group) -> IntArray:
        if type(selection) is OptimalBrainSurgeon:  # the same elimination tells the errors
            return self._elimination(group)[0]
        return selection.order(collect(self._network, group, selection.needs))

    def errors(self, group: Group) -> npt.NDArray[np.float64]:
        """Return the error that a group's consumers make for every count kept, shape (size + 1,); see `elimination`."""
        return self._elimination(group)[1]

    def _elimination(self, group: Group) -> tuple[IntArray, npt.NDArray[np.float64]]:
        if group.index not in self._eliminated:
            self._eliminated[group.index] = elimination(collect(self._network, group, OptimalBrainSurgeon.needs))
        return self._eliminated[group.index]

    def of(self, counts: Sequence[int]) -> dict[int, IntArray]:
        """Return the channels that stay of every group that a policy prunes, by the group's index."""
        return {
            group.index: self.keep(group, count)
            for group, count in zip(self._groups, counts, strict=True)
            if count < group.size
        }

    def to_error(self, error: float) -> tuple[list[tuple[int, IntArray]], npt.NDArray[np.float64]]:
        """Return for each group its index with the channels that stay at about the same error, and the errors there.

        Args:
            error: The error of a group's consumers, in shares of their mean squared output.
        """
        kept, errors = [], []
        for group in self._groups:
            curve = self.errors(group)[: group.size]
            count = max(1, int(np.abs(curve - error).argmin()))
            kept.append((group.index, self.keep(group, count)))
            errors.append(float(curve[count]) if group.size > 1 else 0.0)
        return kept, np.array(errors)


def named(groups: Sequence[Group], kept: Mapping[int, IntArray]) -> dict[str, IntArray]:
    """Return the channels that stay by the names of their groups.

    Args:
        groups: All groups of the graph.
        kept: Channels by the group's index.
    """
    return {groups[index].name: units for index, units in kept.items()}
