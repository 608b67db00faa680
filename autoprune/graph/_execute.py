"""Runs an exported program node by node: the one place that says what a node's arguments are and how long a value is kept."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument
from torch.fx import Node

Item = TypeVar("Item")


class Executor:
    """Runs the nodes of an exported program on values of one's choice.

    A subclass says in `call` what is peculiar about some nodes. The program holds no module of the user's: what runs are
    operators, on the values that are passed, and nothing is written into a model unless its own tensors are passed.

    Args:
        program: The program, with parameters and buffers as inputs.

    Attributes:
        nodes: All nodes in their order, placeholders and output included.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.nodes: tuple[Node, ...] = tuple(program.graph.nodes)
        self._module = program.graph_module
        self._free = free_after(self.nodes, lambda node: node.all_input_nodes)

    def execute(self, values: Sequence[Any]) -> Any:
        """Run all nodes in the program's own order.

        Args:
            values: One for each placeholder.

        Returns:
            The program's outputs, as its output node holds them.
        """
        env: dict[Node, Any] = dict(zip((n for n in self.nodes if n.op == "placeholder"), values, strict=True))
        for node, free in zip(self.nodes, self._free, strict=True):
            if node.op == "output":
                return self.arguments(node, env)[0][0]
            if node.op != "placeholder":
                env[node] = self.call(node, env)
            for done in free:
                del env[done]
        raise AssertionError("a program without an output")

    def call(self, node: Node, env: Mapping[Node, Any]) -> Any:
        """Compute one node from the values of those before it."""
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self._module)
        args, kwargs = self.arguments(node, env)
        target: Any = node.target
        return target(*args, **kwargs)

    def arguments(self, node: Node, env: Mapping[Node, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a node's arguments, with values in the place of nodes."""
        args: tuple[Any, ...] = torch.fx.node.map_arg(node.args, env.__getitem__)
        kwargs: dict[str, Any] = torch.fx.node.map_arg(node.kwargs, env.__getitem__)
        return args, kwargs


def input_nodes(program: ExportedProgram) -> tuple[Node, ...]:
    """Return the placeholders of the tensors that a network is called with, in their order."""
    return _tensors(program, program.graph_signature.input_specs, InputKind.USER_INPUT)


def output_nodes(program: ExportedProgram) -> tuple[Node, ...]:
    """Return the nodes of the tensors that a network answers with, in their order."""
    return _tensors(program, program.graph_signature.output_specs, OutputKind.USER_OUTPUT)


def _tensors(
    program: ExportedProgram, specs: Sequence[InputSpec] | Sequence[OutputSpec], kind: InputKind | OutputKind
) -> tuple[Node, ...]:
    """Return the nodes of the tensors of one kind in a program's signature, in their order."""
    nodes = {node.name: node for node in program.graph.nodes}
    return tuple(
        nodes[spec.arg.name]
        for spec in specs
        if spec.kind == kind and isinstance(spec.arg, TensorArgument) and spec.arg.name
    )


def last_uses(items: Sequence[Item], reads: Callable[[Item], Iterable[Node]]) -> dict[Node, int]:
    """Return for each node the place of the last item that reads it.

    Args:
        items: Nodes, or steps of several nodes, in the order in which they run.
        reads: Tells the nodes that an item reads.
    """
    last: dict[Node, int] = {}
    for place, item in enumerate(items):
        last.update(dict.fromkeys(reads(item), place))
    return last


def free_after(items: Sequence[Item], reads: Callable[[Item], Iterable[Node]]) -> list[list[Node]]:
    """Return for each item the nodes whose values nothing reads after it."""
    free: list[list[Node]] = [[] for _ in items]
    for node, place in last_uses(items, reads).items():
        free[place].append(node)
    return free
