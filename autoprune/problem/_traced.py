"""A network as a search takes it: traced, its coupling groups proved; the first part of a `Problem`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoprune.graph import PruningGraph, build_graph, prove
from autoprune.model_guard import unchanged
from autoprune.models import check_finite
from autoprune.problem._limits import whole_groups
from autoprune.support.device import resolve_device
from autoprune.surgery import copy_model, folded


@dataclass(frozen=True, eq=False)
class Traced:
    """A network and what is known of its structure.

    Attributes:
        model: A copy of the dense network, in eval mode, folded where the graph says so; run within `unchanged` only, as
            networks are cut from it.
        graph: Its proved coupling graph.
        example: A batch for it, shape (N, C, H, W), on the network's device.
        notes: What must stay whole, and what the graph takes for granted.
    """

    model: nn.Module
    graph: PruningGraph
    example: Tensor
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.example.device


@unchanged()  # the global random numbers
def trace(
    model: nn.Module,
    example_input: Tensor,
    *,
    device: str | torch.device = "cpu",
    graph: PruningGraph | None = None,
) -> Traced:
    """Trace a network and prove which of its channels must go together.

    Args:
        model: The trained dense network; not touched.
        example_input: A batch for it, shape (N, C, H, W); only shape and dtype matter.
        device: Torch device.
        graph: Its proved coupling graph, where it is known already.

    Raises:
        UsageError: if the device is not there, a weight is NaN or infinite, or the network cannot be traced.
    """
    check_finite(model.state_dict(), weights="of the model")
    where = resolve_device(device)
    network = copy_model(model).to(where).eval()
    example = example_input.to(where)
    found = prove(network, build_graph(network, example), example) if graph is None else graph
    return Traced(folded(network, found.folded), found, example, whole_groups(found))
