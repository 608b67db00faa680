"""ThiNet (Luo et al. 2017): greedily remove the channel that adds least to the next layer's reconstruction error."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from autoprune.groups import IntArray
from autoprune.select._base import NestedSelection, channel_gram, selections
from autoprune.select._inputs import SelectionInputs
from autoprune.select._magnitude import Magnitude


@selections.register("thinet")
class ThiNet(NestedSelection):
    """Greedy minimisation of the squared output of the removed set (Luo et al. 2017, equation 6 and algorithm 1).

    The paper samples single outputs; we sum over all of them, which second moments give at no further cost.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"magnitude", "moments"})

    def order(self, inputs: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels in the order in which the greedy step removes them."""
        if not inputs["moments"]:
            return Magnitude().order(inputs, count)
        gram = channel_gram(inputs["moments"], inputs.size).cpu().numpy()
        cost = gram.diagonal().copy()
        order = np.empty(inputs.size, dtype=np.int64)
        for step in range(inputs.size):
            channel = int(cost.argmin())
            order[step] = channel
            cost += 2 * gram[channel]
            cost[channel] = np.inf
        return order
