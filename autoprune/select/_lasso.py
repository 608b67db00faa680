"""LASSO channel selection (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks")."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from autoprune.groups import IntArray
from autoprune.select._base import Selection, channel_gram, selections
from autoprune.select._inputs import SelectionInputs
from autoprune.select._magnitude import Magnitude
from autoprune.support.packages import lazy

linear_model = lazy("sklearn.linear_model", "The selection 'lasso' needs")


@selections.register("lasso")
class Lasso(Selection):
    """min over b of ||Y - Σ b_i X_i W_i||² / 2 + α |b|₁ (equation 2), α lowered until ``count`` coefficients are not zero.

    The paper raises α step by step until the count is met; LARS gives the whole path exactly, so the wanted count is read off
    it. Only the Gram matrix of the channels' contributions is needed.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"magnitude", "moments"})

    def keep(self, inputs: SelectionInputs, count: int) -> IntArray:
        """Return the ``count`` channels that stay, ascending."""
        if count >= inputs.size:
            return np.arange(inputs.size, dtype=np.int64)
        if not inputs["moments"]:
            return Magnitude().keep(inputs, count)
        gram = channel_gram(inputs["moments"], inputs.size).cpu().numpy()
        scale = max(float(gram.diagonal().max()), 1e-30)
        gram = gram / scale
        _, _, path = linear_model.lars_path_gram(gram.sum(axis=1), gram, n_samples=1, method="lasso")
        active = (path != 0).sum(axis=0)
        enough = np.flatnonzero(active >= count)
        best = np.abs(path[:, enough[0] if len(enough) else -1])
        # Ties (a knot that adds two channels, or channels that never enter) go to the larger contribution.
        order = np.lexsort((gram.diagonal(), best))
        return np.sort(order[inputs.size - count :]).astype(np.int64)
