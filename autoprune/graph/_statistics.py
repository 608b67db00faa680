"""Means, maxima and the like over channels that come back to the same channels: norms written by hand, spatial attention.

``(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)`` normalises over the channels that are left, as a LayerNorm does, and
``x * sigmoid(conv(cat([x.mean(1, True), x.amax(1, True)], 1)))`` weighs positions by what is left. What such numbers give, layers
included, may be combined with those channels and with nothing else: where it meets other channels or is the output itself, its
meaning hangs on which channels there are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from autoprune.graph._labels import core, varying, words
from autoprune.groups import IntArray

STATISTICS = tuple(
    f"aten.{name}" for name in words("mean var std sum var_mean std_mean linalg_vector_norm amax amin max min")
)
"""Reductions that are understood, each of which is one call in a model's code."""


def come_back(
    statistics: Sequence[Node],
    labels: IntArray,
    env: Mapping[Node, Any],
    root: Callable[[Any], Any],
    *,
    active: set[Node],
    mixed: set[Node],
) -> bool:
    """Return whether what comes of statistics over some channels is combined with these channels, and only with them.

    Args:
        statistics: All that are taken over these channels.
        labels: The labels of the channels.
        env: Labels of the values of all nodes.
        root: Maps labels to those that stand for their sets.
        active: Nodes whose tensors depend on the network's input.
        mixed: Nodes that are not element-wise, layers among them.
    """
    own = set(np.unique(root(labels)).tolist())
    if any(not node.users or _places(node) for node in statistics):
        return False
    context, met = set(statistics), {user for node in statistics for user in node.users}
    for node in statistics[0].graph.nodes:
        if node not in met or node in context:
            continue
        if node.op == "output":
            return False
        if node not in active:
            continue  # a size
        value = env.get(node)
        alone = all(source in context for source in node.all_input_nodes if source in active)
        if not alone and node in mixed:
            return False
        if not alone and isinstance(value, Tensor) and varying(value):
            if set(np.unique(root(core(value).numpy())).tolist()) != own:
                return False
            continue
        context.add(node)
        met.update(node.users)
    return True


def _places(node: Node) -> bool:
    """Whether it is asked where a maximum or minimum is, which depends on how channels are numbered."""
    two = str(node.target).startswith(("aten.max.", "aten.min."))
    return two and any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users)
