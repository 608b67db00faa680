"""Magnitude (Li et al. 2017, "Pruning Filters for Efficient ConvNets"): the smallest filters go first."""

from __future__ import annotations

import numpy as np

from autoprune.groups import IntArray
from autoprune.select._base import NestedSelection, SelectionInputs, selections


@selections.register("magnitude")
class Magnitude(NestedSelection):
    """L1 norm of the filters, summed over all producers of the group (Li et al. 2017, section 3.1)."""

    def order(self, evidence: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels from the smallest norm to the largest."""
        return np.argsort(evidence.magnitude.cpu().numpy(), kind="stable").astype(np.int64)
