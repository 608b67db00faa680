"""A measured cost of one's own: joules an image, from the processor's own counter where it can be read.

From this folder the same is ``autoprune search --budget energy:energy=0.7 --agent tpe --episodes 10``.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn

import autoprune
from autoprune.cost import costs, measured
from autoprune.data import load_data
from autoprune.models import load_model

COUNTER = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # microjoules of the package, often for root only
WATTS = 15.0  # a second of the processor's time, where there is no counter
IMAGES = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def joules() -> float:
    """Return what was spent until now."""
    try:
        return int(COUNTER.read_text()) / 1e6
    except OSError:
        return WATTS * time.process_time()


@costs.register("energy")
@measured(unit="J")
def energy(network: nn.Module) -> float:
    """Return the joules an image takes."""
    network(IMAGES)  # the first run is slower
    before, runs = joules(), 0
    while (spent := joules() - before) <= 1.0 and runs < 1000:
        network(IMAGES)
        runs += 1
    return max(spent, 1e-9) / (runs * len(IMAGES))


def main() -> None:
    """Search with it."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    parts = {"calibration": images.calibration, "evaluate": images.search, "report": images.report}
    budget = autoprune.Budget(energy=0.7)
    quick = {"baselines": ("uniform",), "finish_steps": 0, "episodes": 4}  # seconds; leave it out for the best network
    result = autoprune.search(dense.model, dense.example_input(), **parts, **quick, budget=budget, agent="tpe")
    print(result.table)
    print(f"{energy(result.model) / energy(dense.model):.2f} of the energy, measured again, where 0.70 were allowed.")


if __name__ == "__main__":
    main()
