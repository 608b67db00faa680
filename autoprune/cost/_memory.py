"""Peak memory of activations without running anything: what an inference keeps at once, as a function of the channel counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export.graph_signature import InputKind
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from autoprune.cost._model import CostModel
from autoprune.cost._quadratic import IntArray
from autoprune.errors import AutopruneError, UsageError
from autoprune.graph import Executor, last_uses
from autoprune.groups import Extent, Group, PruningGraph


class MemoryCost:
    """The most bytes that the activations of a network take at once, a closed form of how many channels each group keeps.

    The operators of the exported program run in order. A tensor's storage is there from the operator that makes it until the
    last one that reads it or a view of it; views and in-place operators make none. The network's inputs are there throughout and
    its outputs to the end; parameters and buffers do not count. The peak is the largest sum over all operators, of what is
    there when one has run and nothing it read has been freed yet.

    A real run may take more: what an operator needs inside (convolution workspaces, the indices that a max pool throws away),
    what Python still refers to (a local variable lives until its function returns), what the allocator rounds up (CUDA: to
    512 bytes) and keeps in fragments, and, in training, all that the backward pass needs. A compiled network may take less.
    Where a copy is needed only because of the strides, it is counted as in the dense network; tensors that the code makes
    by itself (``torch.zeros(...)``) count as large as in the dense network.

    Args:
        graph: The coupling graph.
        decisions: The groups that a policy decides, in order; all other groups stay whole.
        batch: Images at a time.

    Attributes:
        dense: Bytes of the dense network.

    Raises:
        UsageError: if ``batch`` is below 1.
        AutopruneError: if the program cannot be run without data, or a tensor's size is no function of the counts.
    """

    def __init__(self, graph: PruningGraph, decisions: Sequence[Group], *, batch: int = 1) -> None:
        if batch < 1:
            raise UsageError(f"The memory of {batch} images is asked for; give at least 1.")
        run = _Run(graph, batch)
        model = CostModel(graph, decisions)
        self.sizes = model.sizes
        self._fixed: IntArray = np.zeros(len(run.steps), dtype=np.int64)
        self._slopes: IntArray = np.zeros((len(run.steps), len(self.sizes)), dtype=np.int64)
        self._products: list[tuple[int, IntArray, IntArray, npt.NDArray[np.bool_]]] = []
        for storage in run.storages.values():
            if not storage.size_bytes:
                continue
            if storage.extents is None:
                raise AutopruneError(
                    f"The memory of this network is not known: how large the tensor '{storage.node}' is does not follow from "
                    "how many channels are kept."
                )
            alive = np.array([storage.first <= step <= storage.last for step in run.steps])
            factors = [model.affine(extent) for extent in storage.extents]
            scale, rest = divmod(storage.size_bytes, math.prod(factor(self.sizes) for factor in factors))
            if rest:
                raise AutopruneError(
                    f"The {storage.size_bytes} bytes of '{storage.node}' are no multiple of its elements; "
                    "this is a bug in autoprune, please report it with the model."
                )
            if len(factors) <= 1:
                (factor,) = factors or [model.affine(Extent(1))]
                self._fixed[alive] += scale * factor.offset
                self._slopes[alive] += scale * np.asarray(factor.slope, dtype=np.int64)
            else:
                offsets = np.array([factor.offset for factor in factors], dtype=np.int64)
                slopes = np.array([factor.slope for factor in factors], dtype=np.int64)
                self._products.append((scale, offsets, slopes, alive))
        self.dense = self(self.sizes)

    def __call__(self, counts: Sequence[int]) -> int:
        return int(self.many(np.asarray([counts], dtype=np.int64))[0])

    def many(self, counts: IntArray) -> IntArray:
        """Return the bytes of many policies; counts of shape (N, decisions), result of shape (N,)."""
        k = np.asarray(counts, dtype=np.int64)
        live = k @ self._slopes.T + self._fixed
        for scale, offsets, slopes, alive in self._products:
            live += (scale * (k @ slopes.T + offsets).prod(axis=1))[:, None] * alive
        result: IntArray = live.max(axis=1, initial=0)
        return result


class _Storage:
    """One tensor's memory: the node that makes it, its elements, and the first and the last step at which it is there."""

    def __init__(self, node: str, size_bytes: int, extents: tuple[Extent, ...] | None, first: int, last: int) -> None:
        self.node = node
        self.size_bytes = size_bytes
        self.extents = extents
        self.first = first
        self.last = last


class _Run(Executor):
    """Runs a program on tensors without data and notes which storages are there when.

    Args:
        graph: The coupling graph.
        batch: Images at a time.

    Attributes:
        storages: The storages by their address.
        steps: Numbers of the nodes at which storages are made, but for those that are there throughout.
    """

    def __init__(self, graph: PruningGraph, batch: int) -> None:
        super().__init__(graph.program)
        self.network = graph
        self.storages: dict[int, _Storage] = {}
        self.kept: list[Tensor] = []  # so that no address is used twice
        self.order = {node: number for number, node in enumerate(self.nodes)}
        self.last_use = self.order | last_uses(self.nodes, lambda node: node.all_input_nodes)
        placeholders = [node for node in self.nodes if node.op == "placeholder"]
        mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        with mode, torch.no_grad():
            values = self._values(graph, placeholders, batch)
            try:
                self.execute(values)
            except Exception as error:
                raise AutopruneError(
                    f"The memory of this network is not known: its program cannot be run without data ({error})."
                ) from error
        self.steps = sorted({storage.first for storage in self.storages.values()})

    def _values(self, graph: PruningGraph, placeholders: Sequence[fx.Node], batch: int) -> list[Any]:
        values: list[Any] = []
        for node, spec in zip(placeholders, graph.program.graph_signature.input_specs, strict=True):
            value = node.meta.get("val")
            if not isinstance(value, Tensor):
                values.append(value)
                continue
            shape = [int(size) if isinstance(size, int) else int(size.node.hint) for size in value.shape]
            is_input = spec.kind == InputKind.USER_INPUT
            if is_input and graph.dynamic_batch and shape:
                shape[0] = batch
            source = graph.program.state_dict.get(spec.target or "")
            strides = None if source is None or is_input else source.stride()
            made = torch.empty(shape, dtype=value.dtype, device=value.device)
            values.append(made if strides is None else made.new_empty_strided(tuple(shape), strides))
            self._note(node, made if strides is None else values[-1], counted=is_input)
        return values

    def call(self, node: fx.Node, env: Mapping[fx.Node, Any]) -> Any:
        """Compute a node and note the storages that its value has."""
        result = super().call(node, env)
        if node.op == "call_function":
            for place, tensor in enumerate(found for found in pytree.tree_leaves(result) if isinstance(found, Tensor)):
                self._note(node, tensor, place=place)
        return result

    def _note(self, node: fx.Node, tensor: Tensor, *, counted: bool = True, place: int = 0) -> None:
        address = tensor.untyped_storage()._cdata
        self.kept.append(tensor)
        known = self.storages.get(address)
        is_output = any(user.op == "output" for user in node.users)
        last = len(self.order) if is_output or node.op == "placeholder" else self.last_use[node]
        if known is not None:
            known.last = max(known.last, last)
            return
        size_bytes = tensor.numel() * tensor.element_size() if counted else 0
        first = -1 if node.op == "placeholder" else self.order[node]
        self.storages[address] = _Storage(node.name, size_bytes, self._extents(node, place), first, last)

    def _extents(self, node: fx.Node, place: int) -> tuple[Extent, ...] | None:
        known = self.network.elements.get(node.name, ())
        return known[place] if place < len(known) else ()
