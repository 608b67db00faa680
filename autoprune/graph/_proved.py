"""The coupling graph as users get it: traced and proved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.graph._build import build_graph
from autoprune.graph._parts import Run, largest, parts_and_inputs
from autoprune.graph._prove import prove
from autoprune.groups import PruningGraph
from autoprune.model_guard import ModelInputs

TRIED, NAMED = 8, 3
"""How many modules are tried, and how many are named, where the whole network cannot be traced."""


def proved_graph(
    model: nn.Module, example_input: Any, *, part: str | Sequence[str] = (), run: Run | None = None
) -> PruningGraph:
    """Trace a network and prove, on its own weights, which of its channels must be removed together.

    A group that fails its proof stays whole and says why (`Group.reason`). This is what `autoprune.prune_model` cuts by::

        graph = autoprune.proved_graph(model, images[:2])
        half = {group.name: np.arange(group.size // 2) for group in graph.groups if group.reason is None}
        small = autoprune.prune_model(model, graph, half)

    Args:
        model: The network; not changed.
        example_input: A batch for it of at least 2: a tensor (B, C, H, W), a tuple of several, a dict (by name where its
            forward takes them so), or `autoprune.model_guard.ModelInputs`; only shapes and types matter.
        part: Paths of the parts that alone are traced, on what they get while the network runs ("backbone"); none for all.
        run: Runs the network on a batch, ``run(model, batch)``; None for a plain call.

    Raises:
        UsageError: if the network cannot be traced; says where and why.
    """
    traced, inputs = parts_and_inputs(model, example_input, part, run)
    return proved_part(traced, inputs, model, run)


def proved_part(traced: nn.Module, inputs: ModelInputs, model: nn.Module, run: Run | None) -> PruningGraph:
    """Trace and prove a network, or parts of it; where the whole cannot be traced the message names parts that can.

    Args:
        traced: The network, or `Parts` of it.
        inputs: What that is called with.
        model: The network.
        run: Runs the network on a batch; None for a plain call.

    Raises:
        UsageError: if the network cannot be called so.
        AutopruneError: if it cannot be traced.
    """
    try:
        return prove(traced, build_graph(traced, inputs), inputs)
    except UsageError:
        raise
    except AutopruneError as error:
        parts = traceable_parts(model, inputs) if traced is model else []
        if not parts:
            raise
        raise AutopruneError(
            f"{str(error).rstrip('.')}. These parts of it can be pruned alone: {', '.join(f'--part {path}' for path in parts)}."
        ) from error


def traceable_parts(model: nn.Module, inputs: ModelInputs) -> list[str]:
    """Return the largest modules of a network that can be traced, at most three of the first eight that are tried."""
    found: list[str] = []
    for path in largest(model, count=TRIED):
        if any(path.startswith(f"{other}.") for other in found):
            continue
        try:
            part, given = parts_and_inputs(model, inputs, [path])
            graph = build_graph(part, given)
        except AutopruneError:
            continue
        if any(group.reason is None for group in graph.groups):
            found.append(path)
    return found[:NAMED]
