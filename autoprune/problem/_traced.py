"""A network as a search takes it: traced, its coupling groups proved; the first part of a `Problem`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data import moved
from autoprune.graph import Parts, PruningGraph, Run, captured, parts_and_inputs, paths_of, proved_part, view
from autoprune.model_guard import ModelInputs, as_inputs, described, unchanged
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
        inputs: What is traced is called with: the example, or what the parts get while the network runs on it.
        notes: What must stay whole, and what the graph takes for granted.
        part: Paths of the parts that alone are pruned; none for all of the network.
        run: Runs the network on a batch; None for a plain call.
        outside: Paths of modules in the parts that the rest of the network calls as well.
    """

    model: nn.Module
    graph: PruningGraph
    example: Any
    inputs: ModelInputs
    notes: tuple[str, ...] = ()
    part: tuple[str, ...] = ()
    run: Run | None = None
    outside: tuple[str, ...] = ()

    @property
    def described(self) -> dict[str, Any]:
        """What a policy file says of how the network was traced, where it is not all of it called with one tensor."""
        found: dict[str, Any] = {"part": list(self.part)} if self.part else {}
        if self.run is not None or not isinstance(self.example, Tensor):
            found["inputs"] = described(self.inputs)
            found |= {"outside": list(self.outside)} if self.outside else {}
        return found

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.inputs.device

    def view(self, network: nn.Module) -> nn.Module:
        """Return of a network of this structure what is traced: its parts, or all of it."""
        return view(network, self.part)

    def captured(self, batches: Iterable[Any]) -> ModelInputs:
        """Return what is traced is called with while the dense network runs on batches."""
        return captured(self.model, self.part, batches, self.run)


@unchanged()  # the global random numbers
def trace(
    model: nn.Module,
    example_input: Any,
    *,
    device: str | torch.device = "cpu",
    graph: PruningGraph | None = None,
    part: str | Sequence[str] = (),
    run: Run | None = None,
) -> Traced:
    """Trace a network and prove which of its channels must go together.

    Args:
        model: The trained dense network; not touched.
        example_input: A batch for it, shape (N, C, H, W); only shape and dtype matter.
        device: Torch device.
        graph: Its proved coupling graph, where it is known already.
        part: Paths of the parts that alone are pruned, on what they get while the network runs; none for all of it.
        run: Runs the network on a batch; None for a plain call.

    Raises:
        UsageError: if the device is not there, a weight is NaN or infinite, or the network cannot be traced.
    """
    check_finite(model.state_dict(), weights="of the model")
    where = resolve_device(device)
    network = copy_model(model).to(where).eval()
    example = (
        moved(example_input, where)
        if isinstance(example_input, Tensor) or run is not None
        else as_inputs(example_input, network).to(where)
    )
    part = paths_of(part)
    traced, inputs = parts_and_inputs(network, example, part, run)
    found = proved_part(traced, inputs, network, run) if graph is None else graph
    notes = (*_about(network, part, found), *whole_groups(found))
    outside = traced.outside if isinstance(traced, Parts) else ()
    return Traced(folded(network, found.folded), found, example, inputs, notes, tuple(part), run, outside)


def _about(network: nn.Module, part: Sequence[str], graph: PruningGraph) -> tuple[str, ...]:
    """Return what is to be known of a search that prunes parts only."""
    if not part:
        return ()
    own = sum(parameter.numel() for parameter in view(network, part).parameters())
    total = sum(parameter.numel() for parameter in network.parameters())
    return (
        f"Only a part of the network is pruned ({', '.join(part)}), {own:,} of its {total:,} parameters: MACs, parameters and "
        "memory, and limits on them, are those of that alone; the score and the size in bytes are those of the whole network.",
    )
