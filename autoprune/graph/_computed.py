"""Weights that the forward computes from parameters: standardised, normalised or parametrized ones.

Such a weight is understood if it comes from one parameter of its own shape, and perhaps vectors with a number per output channel,
in a way that treats every output channel by itself, and if it does with fewer inputs one of these:

- it stays a part of the whole weight (a mask, a scale per output channel);
- it is scaled, which a vector can undo (weight normalisation: its length is that of the inputs that are left);
- it is standardised (mean and variance over the inputs) or has its length divided out: over those that are left, as a LayerNorm
  is over its channels.

All this is tried out on the computation itself, not read off its operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg

from autoprune.graph._call import concrete
from autoprune.graph._trace import Traced

_LAYERS = tuple(f"aten.{name}." for name in ("conv1d", "conv2d", "conv3d", "linear"))
_ROWS = 16  # output channels that a weight is tried out on
_SHAPED = ("aten.view.", "aten.reshape.", "aten._unsafe_view.", "aten.expand.")


@dataclass(frozen=True, eq=False)
class ComputedWeight:
    """How one layer's weight is computed.

    Attributes:
        node: The node whose value is the weight.
        source: The placeholder of the parameter that has the weight's shape.
        vectors: Placeholders that hold one number per output channel, and the dimension along which they do.
        nodes: The nodes on the way from the placeholders to the weight, in order, ``node`` the last.
        names: Name of the parameter or buffer of every placeholder that is read.
        scale: The vector that undoes how the weight is scaled when inputs go; None if nothing has to be undone.
    """

    node: Node
    source: Node
    vectors: tuple[tuple[Node, int], ...]
    nodes: tuple[Node, ...]
    names: Mapping[Node, str]
    scale: Node | None = None

    @property
    def leaves(self) -> tuple[Node, ...]:
        """The placeholders that are read: the source, the vectors, the others."""
        first = (self.source, *(leaf for leaf, _ in self.vectors))
        return (*first, *(leaf for leaf in self.names if leaf not in first))

    @property
    def form(self) -> tuple[str, ...]:
        """What is computed, and on which shapes: equal for weights that are computed alike."""
        number = {node: f"%{place}" for place, node in enumerate((*self.leaves, *self.nodes))}
        calls = ((node.target, map_arg(node.args, number.get), map_arg(node.kwargs, number.get)) for node in self.nodes)
        shapes = (concrete(leaf.meta["val"].shape) for leaf in self.leaves)
        return (str(tuple(shapes)), str([dim for _, dim in self.vectors]), *map(str, calls))

    def evaluate(self, values: Mapping[Node, Any]) -> Tensor:
        """Compute the weight from other values of the placeholders, narrowed ones perhaps.

        Args:
            values: Value of every placeholder that is read.
        """
        result: Tensor = self._run(values)[self.node]
        return result

    def lies_along(self) -> dict[int, tuple[bool, bool]]:
        """Return whether what nodes make has as many elements as there are output, and input channels; by place in ``nodes``."""
        shapes = {node: concrete(node.meta["val"].shape) for node in self.names}
        vectors = dict(self.vectors)

        def sizes(rows: int, columns: int) -> dict[int, int]:
            values = {}
            for node, shape in shapes.items():
                new = list(shape)
                if node is self.source:
                    new[:2] = [rows, columns]
                elif node in vectors:
                    new[vectors[node]] = rows
                values[node] = torch.empty(new, device="meta")
            env = self._run(values)
            return {place: env[n].numel() for place, n in enumerate(self.nodes) if isinstance(env[n], Tensor)}

        rows, columns = shapes[self.source][:2]
        whole, fewer, slim = sizes(rows, columns), sizes(max(rows - 1, 1), columns), sizes(rows, max(columns - 1, 1))
        return {place: (fewer[place] < number, slim[place] < number) for place, number in whole.items()}

    def _run(self, values: Mapping[Node, Any]) -> dict[Node, Any]:
        """Return the values of the placeholders and of all nodes."""
        env: dict[Node, Any] = dict(values)
        before, after = concrete(self.source.meta["val"].shape), tuple(env[self.source].shape)
        for node in self.nodes:
            args: Any = map_arg(node.args, env.__getitem__)
            kwargs = map_arg(node.kwargs, env.__getitem__)
            if str(node.target).startswith(_SHAPED):
                args = (args[0], _shape(args[0], args[1], before, after), *args[2:])
            env[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        return env


def _shape(x: Tensor, sizes: Sequence[int], before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    """Return what sizes written for the whole weight are for a narrowed one."""
    if tuple(sizes) == before:
        return list(after)
    new = [after[0] if size == before[0] else size for size in sizes]
    if -1 not in new and math.prod(new) != x.numel():
        widest = max((dim for dim, size in enumerate(new) if size != after[0]), key=lambda dim: new[dim], default=None)
        if widest is not None:
            new[widest] = -1
    return new


def _ancestors(node: Node) -> set[Node]:
    found, stack = {node}, [node]
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


def _understood(traced: Traced, layer: Node, order: Mapping[Node, int]) -> ComputedWeight | None:
    node = layer.args[1]
    if not isinstance(node, Node) or node.op != "call_function":
        return None
    found = _ancestors(node)
    leaves = [n for n in found if n.op == "placeholder"]
    shape = concrete(node.meta["val"].shape)
    sizes = {leaf: concrete(leaf.meta["val"].shape) for leaf in leaves if isinstance(leaf.meta.get("val"), Tensor)}
    if len(sizes) < len(leaves) or any(leaf not in traced.tensors for leaf in leaves):
        return None
    inner = [n for n in found if n.op != "placeholder"]
    inside = {*inner, layer}
    if any(user not in inside for n in inner for user in n.users):
        return None
    sources = [leaf for leaf in leaves if sizes[leaf] == shape]
    if len(sources) != 1 or any(user not in inside for user in sources[0].users):
        return None
    vectors: list[tuple[Node, int]] = []
    for leaf in leaves:
        wide = [dim for dim, size in enumerate(sizes[leaf]) if size > 1]
        if leaf is sources[0] or not wide:
            continue
        if len(wide) > 1 or sizes[leaf][wide[0]] != shape[0]:
            return None
        vectors.append((leaf, wide[0]))
    inner.sort(key=order.__getitem__)
    names = {leaf: traced.tensors[leaf] for leaf in leaves}
    return ComputedWeight(node, sources[0], tuple(vectors), tuple(inner), names)


class _Trial:
    """A computed weight on numbers of our own, of some output channels once they are known to be treated each by itself."""

    def __init__(self, weight: ComputedWeight) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weight = weight
        self.values = {
            node: torch.rand(concrete(node.meta["val"].shape), generator=generator, dtype=torch.float64) + 0.5
            for node in weight.names
        }
        whole = weight.evaluate(self.values)
        channels = self.values[weight.source].shape[0]
        rows = torch.arange(0, channels, max(2, channels // _ROWS))
        for leaf, dim in ((weight.source, 0), *weight.vectors):
            self.values[leaf] = self.values[leaf].index_select(dim, rows)
        self.source = self.values[weight.source]
        self.whole = weight.evaluate(self.values)
        expected = whole.index_select(0, rows)
        self.by_itself = self.whole.shape == expected.shape and torch.allclose(self.whole, expected, rtol=1e-9)
        self.columns = torch.arange(0, self.source.shape[1], 2)
        self.slim = self.with_source(self.source.index_select(1, self.columns))

    def with_source(self, source: Tensor) -> Tensor:
        return self.weight.evaluate({**self.values, self.weight.source: source})

    def by_channel(self) -> bool:
        """Whether every output channel is treated by itself, and fewer inputs give a weight of their shape."""
        return self.by_itself and self.slim.shape[:2] == (len(self.source), len(self.columns))

    def standardised(self) -> bool:
        return torch.allclose(self.with_source(100 * self.source + 3), self.whole, rtol=1e-3, atol=1e-6)

    def only_scaled(self) -> bool:
        """Whether fewer inputs do nothing but scale every output channel."""
        flat = (self.whole.index_select(1, self.columns) / self.slim).flatten(1)
        return torch.allclose(flat, flat[:, :1].expand_as(flat), rtol=1e-6)

    def scale(self) -> Node | None:
        """Return the vector that the weight is proportional to."""
        for leaf, _ in self.weight.vectors:
            doubled = self.weight.evaluate({**self.values, leaf: 2 * self.values[leaf]})
            if torch.allclose(doubled, 2 * self.whole, rtol=1e-9):
                return leaf
        return None

    def judge(self) -> ComputedWeight | None:
        """Return the weight as it is understood; None if it is not."""
        if not self.by_channel():
            return None
        part = self.whole.index_select(1, self.columns)
        if self.standardised() or torch.allclose(self.slim, part, rtol=1e-9):
            return self.weight
        return replace(self.weight, scale=self.scale()) if self.only_scaled() else None


def _tried(weight: ComputedWeight) -> ComputedWeight | None:
    try:
        return _Trial(weight).judge()
    except (RuntimeError, TypeError, ValueError, IndexError):
        return None


def computed_weights(traced: Traced) -> dict[Node, ComputedWeight]:
    """Return the computed weights that are understood, by the layer's node."""
    nodes = list(traced.program.graph.nodes)
    tried: dict[tuple[str, ...], tuple[bool, int | None]] = {}
    order = {node: number for number, node in enumerate(nodes)}
    found: dict[Node, ComputedWeight] = {}
    for node in nodes:
        if node.op == "call_function" and str(node.target).startswith(_LAYERS):
            weight = _understood(traced, node, order)
            if weight is None:
                continue
            form = weight.form
            if form not in tried:
                result = _tried(weight)
                scale = None if result is None or result.scale is None else weight.leaves.index(result.scale)
                tried[form] = result is not None, scale
            understood, place = tried[form]
            if understood:
                found[node] = weight if place is None else replace(weight, scale=weight.leaves[place])
    return found
