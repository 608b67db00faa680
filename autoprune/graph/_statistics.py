"""Norms written by hand: a mean or variance over channels that meets nothing but the same channels again.

``(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)`` normalises over the channels that are left, as a LayerNorm does. A
mean of channels that goes anywhere else (into a layer, to the output) is not such a norm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from autoprune.graph._labels import core, varying, words
from autoprune.graph._types import IntArray

STATISTICS = tuple(f"aten.{name}" for name in words("mean var std sum var_mean std_mean linalg_vector_norm"))
"""Reductions that may be a norm's, each of which is one call in a model's code."""

_MANY_USERS = 200


def meets_only(
    node: Node, labels: IntArray, env: Mapping[Node, Any], root: Callable[[Any], Any], stop: set[Node]
) -> bool:
    """Return whether what comes of a statistic is combined with its own channels, and only with them.

    Args:
        node: The statistic.
        labels: The labels of the channels that it is taken over.
        env: Labels of the values of all nodes.
        root: Maps labels to those that stand for their sets.
        stop: Nodes that the statistic must not reach: layers and what is not element-wise.
    """
    own = set(np.unique(root(labels)).tolist())
    stack, seen = list(node.users), set(node.users)
    if not stack:
        return False
    while stack:
        current = stack.pop()
        if current.op == "output" or current in stop or len(seen) > _MANY_USERS:
            return False
        value = env.get(current)
        if isinstance(value, Tensor) and varying(value):
            if set(np.unique(root(core(value).numpy())).tolist()) != own:
                return False
            continue
        new = [user for user in current.users if user not in seen]
        seen.update(new)
        stack += new
    return True
