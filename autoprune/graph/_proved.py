"""The coupling graph as users get it: traced and proved."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoprune.graph._build import build_graph
from autoprune.graph._prove import prove
from autoprune.groups import PruningGraph


def proved_graph(model: nn.Module, example_input: Any) -> PruningGraph:
    """Trace a network and prove, on its own weights, which of its channels must be removed together.

    A group that fails its proof stays whole and says why (`Group.reason`). This is what `autoprune.prune_model` cuts by::

        graph = autoprune.proved_graph(model, images[:2])
        half = {group.name: np.arange(group.size // 2) for group in graph.groups if group.reason is None}
        small = autoprune.prune_model(model, graph, half)

    Args:
        model: The network; not changed.
        example_input: A batch for it of at least 2: a tensor (B, C, H, W), a tuple of several, a dict (by name where its
            forward takes them so), or `autoprune.model_guard.ModelInputs`; only shapes and types matter.

    Raises:
        UsageError: if the network cannot be traced; says where and why.
    """
    return prove(model, build_graph(model, example_input), example_input)
