"""A selection of one's own, FPGM (He et al., CVPR 2019): filters near the geometric median of their layer go first.

From this folder the same is ``autoprune search --select fpgm:FPGM --agent tpe --episodes 10``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

import autoprune
from autoprune.data import load_data
from autoprune.graph import IntArray
from autoprune.models import load_model
from autoprune.select import NestedSelection, SelectionInputs, selections


@selections.register("fpgm")
class FPGM(NestedSelection):
    """Order channels by the summed distance of their filter to all others of the layer, g(i) = Σ_j ||F_i - F_j|| (equation 6).

    The filters of a channel that several layers produce are put side by side, each layer's scaled to a norm of one.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"filters"})

    def order(self, inputs: SelectionInputs, count: int = 0) -> IntArray:
        """Return the channels from the most to the least replaceable, shape (size,)."""
        rows = torch.cat([rows / rows.norm().clamp(min=1e-30) for rows in inputs["filters"]], dim=1)
        distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
        return np.argsort(distances.cpu().numpy(), kind="stable").astype(np.int64)


def main() -> None:
    """Search with it."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        select="fpgm",
        budget=0.5,
        agent="tpe",
        episodes=4,
        baselines=("uniform",),
        finish_steps=0,  # seconds; leave it out for the best network
    )
    print(result.table)


if __name__ == "__main__":
    main()
