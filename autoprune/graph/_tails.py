"""Whether a call belongs to the end of a network: what comes of it is the output, and no layer stands between.

A softmax, an argmax or the best five of the last layer's channels are answers about all of them, so these channels are the
network's output, as if the layer itself were the last call.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.fx import Node


def at_the_end(node: Node, inputs: Collection[Node], layers: Collection[str]) -> bool:
    """Return whether what comes of a call meets nothing but what comes of the same tensor, and then the output.

    Args:
        node: The call; its first argument is the tensor.
        inputs: The placeholders of the network's inputs.
        layers: Names, without overload, of the operators that have weights.
    """
    active = set(inputs)
    own, reached = {node.args[0], node}, {node}
    for other in node.graph.nodes:
        sources = [source for source in other.all_input_nodes if source in active]
        if other.op == "output" or not sources or not _is_data(other):
            continue
        active.add(other)
        if _name(other) not in layers and all(source in own for source in sources):
            own.add(other)
        if any(source in reached for source in sources):
            if other not in own or _writes(other, reached):
                return False
            reached.add(other)
    return any(source in reached for source in node.graph.output_node().all_input_nodes)


def _is_data(node: Node) -> bool:
    """Return whether a node's value is a tensor, or several, and no size."""
    return isinstance(node.meta.get("val"), (Tensor, list, tuple))


def _name(node: Node) -> str:
    target = node.target
    return str(target._overloadpacket) if isinstance(target, torch._ops.OpOverload) else str(target)


def _writes(node: Node, reached: Collection[Node]) -> bool:
    """Return whether a call writes into a tensor that is not one of ``reached``."""
    mutable = isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
    return mutable and (not node.args or node.args[0] not in reached)
