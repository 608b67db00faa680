"""A budget of one's own: an accelerator that computes 16 channels at a time, whatever it is given, and has little memory.

The same from the command line, from this folder:
    autoprune search --budget custom_cost:tiles=0.5,memory=0.8 --agent tpe --episodes 30
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

import autoprune
from autoprune.cost import costs, on_network
from autoprune.data import load_data
from autoprune.models import load_model


@costs.register("tiles")
@on_network
def tiles(network: nn.Module) -> float:
    """Return the tiles of 16 x 16 weights that the network's convolutions take.

    Args:
        network: The pruned network; its shapes count. Without ``on_network`` it would be the kept channels by group name.
    """
    shapes = [module.weight.shape for module in network.modules() if isinstance(module, nn.Conv2d)]
    return float(sum(-(-out // 16) * -(-into // 16) * height * width for out, into, height, width in shapes))


@costs.register("widest")
def widest(kept: Mapping[str, int]) -> float:
    """Return the widest group: a cost of the kept channels needs no network."""
    return float(max(kept.values()))


def main() -> None:
    """Search with both, and peak memory besides."""
    dense = load_model("digits")
    images = load_data("digits", mean=dense.mean, std=dense.std)
    result = autoprune.search(
        dense.model,
        dense.example_input(),
        calibration=images.calibration,
        evaluate=images.search,
        report=images.report,
        budget=autoprune.Budget(tiles=0.6, widest=40, memory=0.9),
        agent="tpe",
        episodes=30,
    )
    print(result.table)
    used = tiles(result.model) / tiles(dense.model)
    print(f"{used:.3f} of the tiles are used where 0.600 were allowed.")


if __name__ == "__main__":
    main()
