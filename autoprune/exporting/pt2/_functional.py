"""Exported programs without writing: what is done in place is done on copies, so that a file needs no operator that writes."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

_SHARING = frozenset({
    "contiguous", "reshape", "flatten", "unflatten", "to", "type_as", "dropout", "feature_dropout", "alpha_dropout",
})  # fmt: skip
"""Operators whose output may share memory with their input though torch does not say so."""


def functional(program: ExportedProgram) -> ExportedProgram:
    """Return the program with no operator that writes.

    An activation in place becomes the same one out of place, where nothing else can see the memory; where something can, torch
    rewrites the program, which takes longer.

    Args:
        program: It is changed.
    """
    writing = [node for node in program.graph.nodes if node.op == "call_function" and _writes(node)]
    if not writing:
        return program
    if not all(_replaceable(node) for node in writing):
        return cast(ExportedProgram, program.run_decompositions({}))
    for node in writing:
        written = node.args[0]
        node.target = _pure_form(node.target)
        seen = False
        for later in program.graph.nodes:
            if seen:
                later.replace_input_with(written, node)
            seen = seen or later is node
    program.graph_module.recompile()
    return program


def _writes(node: Node) -> bool:
    """Whether a call changes memory, or (a block with gradients off, autocast) may hold one that does."""
    return node.target._schema.is_mutable if isinstance(node.target, torch._ops.OpOverload) else _is_block(node)


def _is_block(node: Node) -> bool:
    return isinstance(node.target, torch._ops.HigherOrderOperator)


def _pure_form(target: Any) -> Any:
    """Return the overload that does the same on a copy, or None."""
    packet, _, overload = str(target).removeprefix("aten.").partition(".")
    return getattr(getattr(torch.ops.aten, packet.removesuffix("_"), None), overload, None)


def _replaceable(node: Node) -> bool:
    """Whether the pure form can stand in the place of a call: the memory that it writes is nobody else's."""
    if _is_block(node) or not str(node.target).startswith("aten.") or _pure_form(node.target) is None:
        return False
    written = node.args[0]
    if not isinstance(written, Node) or written.op != "call_function" or _shares(written):
        return False
    values = [value.meta.get("val") for value in (written, *node.all_input_nodes)]
    if len({value.dtype for value in values if isinstance(value, Tensor)}) != 1:
        return False
    return not any(_shares(user) for user in written.users if user is not node)


def _shares(node: Node) -> bool:
    """Whether a call's output may be another view of its input's memory; that of a write is the input itself, seen after it."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return True
    if target._schema.is_mutable:
        return False
    name = str(target).split(".")[1]
    return name in _SHARING or any(result.alias_info is not None for result in target._schema.returns)
