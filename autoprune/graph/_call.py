"""Calls of operators as the rules see them: their arguments, where in the user's code they stand, and what they mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.fx import Node

from autoprune.graph._sizes import FRAME
from autoprune.groups import IntArray

_LIBRARIES = (f"{os.sep}site-packages{os.sep}torch{os.sep}", f"{os.sep}torch{os.sep}nn{os.sep}")


@dataclass(frozen=True)
class Param:
    """A parameter or buffer as it stands in the model, not yet taken apart."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One operator call: its node, its arguments by the schema's names, and the shape of its output.

    Attributes:
        node: The node of the program.
        op: Name of the operator without overload and in-place mark ("aten.add").
        args: Arguments by name: label tensors, ``Param``, numbers, lists of these.
        active: Names of the arguments that depend on the network's input.
    """

    node: Node
    op: str
    args: dict[str, Any]
    active: frozenset[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output (of the first one if there are several)."""
        value = self.node.meta["val"]
        value = value[0] if isinstance(value, (tuple, list)) else value
        return concrete(value.shape)


def bound(node: Node) -> dict[str, Any]:
    """Return the arguments of a call by the schema's names, nodes as they are."""
    specs = node.target._schema.arguments  # type: ignore[union-attr]
    return {**{spec.name: value for spec, value in zip(specs, node.args, strict=False)}, **node.kwargs}


def concrete(shape: Sequence[Any]) -> tuple[int, ...]:
    """Return a shape with the traced size in the place of every symbol."""
    return tuple(size if isinstance(size, int) else int(size.node.hint) for size in shape)


def source_line(node: Node) -> str:
    """Return where in the user's code a node comes from, as "file.py:12 (`code`)", or an empty string."""
    lines = str(node.meta.get("stack_trace") or "").splitlines()
    found = ""
    for number, line in enumerate(lines):
        frame = FRAME.search(line)
        if frame and (not found or not any(part in frame.group(1) for part in _LIBRARIES)):
            code = lines[number + 1].strip() if number + 1 < len(lines) else ""
            found = f"{Path(frame.group(1)).name}:{frame.group(2)}" + (f" (`{code}`)" if code else "")
    return found


def torch_module(node: Node) -> str:
    """Return the name of the class of torch.nn that a node was called in, or an empty string."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    package, _, kind = str(stack[-1][1] if stack else "").rpartition(".")
    return kind if package.startswith("torch.nn.modules") else ""


@dataclass(frozen=True, eq=False)
class LayerCall:
    """A convolution or linear call as the rules saw it: the node, the weight, and the labels going in and out.

    ``balanced`` says that a grouped convolution loses channels inside its groups, and no group.
    """

    call: Call
    kind: str
    weight: Param
    bias: Param | None
    in_labels: IntArray
    out_labels: IntArray
    in_shape: tuple[int, ...]
    balanced: bool = False


@dataclass(frozen=True, eq=False)
class TableCall:
    """A look-up in a table as the rules saw it: the node, the table, its channels' labels, and the layers before it."""

    call: Call
    weight: Param
    out_labels: IntArray
    after: int


@dataclass(frozen=True, eq=False)
class ProductCall:
    """A call that multiplies but is no layer, as the rules saw it.

    Attributes:
        node: The node.
        dims: The labels along each dimension that it runs over and that holds channels.
        reads: Number of an operand, its dimension and the labels along it, where it sums over channels.
    """

    node: Node
    dims: tuple[IntArray, ...] = ()
    reads: tuple[int, int, IntArray] | None = None


@dataclass(frozen=True, eq=False)
class CallLink:
    """An argument of a call in the code that counts channels: see ``CallArgument``.

    ``even`` says that channels of one group must own equally many of what is counted, ``fixed`` that the code is not trusted to
    follow the channels by itself: it cuts pieces that may be of any size.
    """

    kind: Literal["count", "pieces", "picked"]
    labels: IntArray
    at: IntArray
    sign: int = 1
    even: bool = True
    fixed: bool = False

    @property
    def places(self) -> list[IntArray]:
        """The labels of each number in the argument, where it must fall with each channel of a group alike."""
        if not self.even:
            return []
        if self.kind == "count":
            return [self.labels]
        if self.kind == "pieces":
            return np.split(self.labels, self.at[:-1])
        return [self.labels, self.labels[self.at]]
