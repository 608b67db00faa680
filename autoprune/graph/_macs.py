"""Multiply-adds of one image: of every layer, and of all other operators that the oracle counts.

The oracle is half of what ``torch.utils.flop_counter.FlopCounterMode`` counts (with the math attention backend).
"""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import map_arg
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from autoprune.graph._call import LayerCall, concrete
from autoprune.graph._trace import Traced, is_symbolic

_log = logging.getLogger(__name__)


class MacCounter:
    """Counts multiply-adds of a traced program for a batch of one image.

    Where the batch dimension is symbolic, every shape is taken at one image, exactly. Where the program was traced for one
    batch size, what depends on the images is counted for all of them and divided by their number.

    Args:
        traced: The program.
    """

    def __init__(self, traced: Traced) -> None:
        sizes = [node.meta["val"].shape[0] for node in traced.inputs if node.meta["val"].dim()] or [1]
        self._symbols = {size.node.expr: 1 for size in sizes if is_symbolic(size)}  # several where inputs never meet
        self._batch = 1 if self._symbols else int(sizes[0])
        self._active: set[Node] = set(traced.inputs)
        for node in traced.program.graph.nodes:
            if any(source in self._active for source in node.all_input_nodes):
                self._active.add(node)

    def _size(self, size: Any) -> int:
        if not isinstance(size, torch.SymInt) or not self._symbols:
            return concrete([size])[0]
        single = size.node.expr.subs(self._symbols)
        return int(single) if single.is_number else concrete([size])[0]

    def shape(self, node: Node) -> tuple[int, ...]:
        """Return the shape of a node's (first) value for one image, or for the traced batch where that is fixed."""
        value = node.meta["val"]
        value = value[0] if isinstance(value, (tuple, list)) else value
        return tuple(self._size(size) for size in value.shape)

    def _per_image(self, count: int, node: Node) -> int:
        return count // self._batch if node in self._active else count

    def layer(self, layer: LayerCall) -> int:
        """Return the multiply-adds of a convolution or linear call."""
        node = layer.call.node
        source = node.args[0]
        before = self.shape(source) if isinstance(source, Node) else layer.in_shape
        if layer.kind == "linear":
            positions = math.prod(before[:-1])
        else:
            shape = before if layer.kind == "conv_transpose" else self.shape(node)
            positions = shape[0] * math.prod(shape[2:])
        weight = node.args[1]
        shape = self.shape(weight) if isinstance(weight, Node) else layer.weight.shape
        return self._per_image(positions * math.prod(shape), node)

    def product(self, node: Node) -> int:
        """Return the multiply-adds of an operator that is no layer, counted by the oracle on tensors without data."""
        if not isinstance(node.target, torch._ops.OpOverload):
            return 0
        try:
            args = map_arg(node.args, self._empty)
            kwargs = map_arg(node.kwargs, self._empty)
            with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
                node.target(*args, **kwargs)
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError) as error:
            _log.debug("The MACs of %s are not counted: %s", node.target, error)
            return 0
        return self._per_image(counter.get_total_flops() // 2, node)

    def _empty(self, node: Node) -> Any:
        return pytree.tree_map(self._empty_value, node.meta.get("val"))

    def _empty_value(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.empty(tuple(self._size(size) for size in value.shape), dtype=value.dtype, device="meta")
        if isinstance(value, torch.SymInt):
            return self._size(value)
        return concrete([value])[0] if isinstance(value, (torch.SymFloat, torch.SymBool)) else value
