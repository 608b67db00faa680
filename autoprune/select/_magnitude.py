"""Magnitude (Li et al. 2017, "Pruning Filters for Efficient ConvNets"): the smallest filters go first."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from autoprune.groups import IntArray
from autoprune.select._base import NestedSelection, selections
from autoprune.select._inputs import SelectionInputs


@selections.register("magnitude")
class Magnitude(NestedSelection):
    """L1 norm of the filters, summed over all producers of the group (Li et al. 2017, section 3.1)."""

    needs: ClassVar[frozenset[str]] = frozenset({"magnitude"})

    def order(self, inputs: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels from the smallest norm to the largest."""
        return np.argsort(inputs["magnitude"].cpu().numpy(), kind="stable").astype(np.int64)
