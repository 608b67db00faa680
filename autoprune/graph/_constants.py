"""Values of nodes that depend on nothing but constants in the code and buffers of whole numbers: permutations, places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

_MOST = 1 << 20
_MARKS = ("aten.lift_fresh_copy.", "aten.detach.", "aten.detach_.", "aten.lift_fresh.", "aten.lift.")


class Constants:
    """Evaluates nodes of a program that are constants.

    Args:
        program: The program.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self._given: Mapping[str, Any] = {**program.state_dict, **program.constants}
        placeholders = program.graph.find_nodes(op="placeholder")
        self._specs = dict(zip(placeholders, program.graph_signature.input_specs, strict=True))
        self._known: dict[Node, Tensor | None] = {}

    def __call__(self, node: Node) -> Tensor | None:
        """Return the value of a node, None if it is no constant."""
        if node not in self._known:
            self._known[node] = self._value(node)
        return self._known[node]

    def _value(self, node: Node) -> Tensor | None:
        if node.op == "placeholder":
            found = self._given.get(self._specs[node].target or "")
            return found.cpu() if isinstance(found, Tensor) and not found.is_floating_point() else None
        made = node.meta.get("val")
        if node.op != "call_function" or not isinstance(made, Tensor) or made.numel() > _MOST:
            return None
        if any(not isinstance(size, int) for size in made.shape):
            return None
        values = {source: self(source) for source in node.all_input_nodes}
        if any(value is None for value in values.values()):
            return None
        if str(node.target).startswith(_MARKS):
            return values[node.args[0]]  # type: ignore[index]
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or target._schema.is_mutable:
            return None
        if torch.Tag.nondeterministic_seeded in target.tags:
            return None
        kwargs = {**map_arg(node.kwargs, values.get), **({"device": "cpu"} if "device" in node.kwargs else {})}
        try:
            result = target(*map_arg(node.args, values.get), **kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError):
            return None
        return result if isinstance(result, Tensor) and not result.is_floating_point() else None


__all__ = ["Constants"]
