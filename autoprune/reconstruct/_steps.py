"""What a plan consists of: operators as they stand, layers with the BatchNorm behind them, and blocks of both."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import Node

from autoprune.groups import Layer


@dataclass(frozen=True, eq=False)
class Call:
    """Run one operator as it stands."""

    node: Node


@dataclass(frozen=True, eq=False)
class Affine:
    """Run one convolution or linear layer together with the BatchNorm that follows it.

    Attributes:
        layer: The layer.
        node: Its own node.
        source: Node of its input.
        result: Node whose value is the output: the BatchNorm's where there is one, else the layer's own.
        norm: Node of the BatchNorm, or None.
        other: Node of the other summand if the result goes into nothing but an addition, else None.
        total: That addition, else None.
        refit: Whether the weights may be refitted (not if they are tied, computed or transposed).
        saturation: Bounds of the rectifier that alone reads the result (or the addition), None if something else does.
    """

    layer: Layer
    node: Node
    source: Node
    result: Node
    norm: Node | None
    other: Node | None
    total: Node | None
    refit: bool
    saturation: tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Block:
    """Steps between two places where few values, mostly one, are all that the rest of the network needs of the inputs.

    Attributes:
        steps: Places of the first step and behind the last one.
        sources: Nodes of the values that go in.
        results: Nodes of the values that come out: what the block computes, and what goes in and is needed later.
        made: The places among the results of what the block computes.
    """

    steps: tuple[int, int]
    sources: tuple[Node, ...]
    results: tuple[Node, ...]
    made: tuple[int, ...]


Step = Call | Affine


def used(step: Step) -> list[Node]:
    """Return the nodes whose values a step needs."""
    if isinstance(step, Call):
        return step.node.all_input_nodes
    return [step.source, *([step.other] if step.other else [])]


def made(step: Step) -> Node:
    """Return the node whose value a step computes."""
    return step.result if isinstance(step, Affine) else step.node
