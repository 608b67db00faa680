"""Runs an exported program on tensors of one's choice, with the input channels of its layers masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from autoprune.graph._computed import ComputedWeight
from autoprune.graph._execute import Executor
from autoprune.graph._trace import tensor_names
from autoprune.groups import Group, IntArray, PruningGraph
from autoprune.model_guard import ModelInputs

_NORMS = ("aten.layer_norm.", "aten.group_norm.", "aten.rms_norm.")


class Masking:
    """Where the units of some groups enter the layers that consume them, and the norms that mix them.

    All units of all groups are numbered through; a mask is one vector over them, with a last entry of one for channels
    that belong to none of the groups.

    Args:
        graph: The coupling graph.
        groups: The groups whose units are masked.
        names: Placeholder name -> name of its parameter or buffer.

    Attributes:
        count: Number of units.
        offset: For each group of the graph the number of its first unit, -1 where it is not masked.
        consumers: For each convolution and linear node the unit of every input channel, shape (in_channels,).
        norms: For each norm node the unit of every element of its scale, in the scale's shape.
        statistics: For each mean or the like over channels their dimension and the unit of each of them.
        products: For each product that sums over channels the operand, its dimension and the unit of each index of it.
    """

    def __init__(self, graph: PruningGraph, groups: tuple[Group, ...], names: Mapping[str, str]) -> None:
        offset = np.full(len(graph.groups), -1, dtype=np.int64)
        self.count = 0
        for group in groups:
            offset[group.index] = self.count
            self.count += group.size
        self.offset = offset
        self.consumers: dict[str, Tensor] = {}
        for layer in graph.layers:
            if layer.reads_channels:
                index = self._units(layer.in_group, layer.in_unit)
                if bool((index < self.count).any()):
                    self.consumers[layer.node] = index
        self.norms = self._norms(graph, groups, names)
        self.statistics: dict[str, tuple[int, Tensor]] = {}
        for statistic in graph.statistics:
            self.statistics[statistic.node] = (statistic.dim, self._units(statistic.group, statistic.unit))
        self.products: dict[str, tuple[int, int, Tensor]] = {}
        for product in graph.products:
            if product.dim is not None:
                self.products[product.node] = (product.operand, product.dim, self._units(product.group, product.unit))

    def _units(self, group: IntArray, unit: IntArray) -> Tensor:
        """Return the number of the unit of every channel."""
        offset = np.append(self.offset, -1)[group]  # the last is that of channels without a group (-1)
        return torch.from_numpy(np.where(offset >= 0, offset + unit, self.count))

    def _norms(self, graph: PruningGraph, groups: tuple[Group, ...], names: Mapping[str, str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        nodes = [
            node for node in graph.program.graph.nodes if str(node.target).startswith(_NORMS) and len(node.args) > 2
        ]
        for node in nodes:
            scale = node.args[2]
            if not isinstance(scale, fx.Node) or scale.name not in names:
                continue
            units = torch.full(tuple(scale.meta["val"].shape), self.count)
            for group in groups:
                for piece in group.slices:
                    if piece.tensor == names[scale.name]:
                        view = [1] * units.dim()
                        view[piece.dim] = -1
                        owner = torch.from_numpy(self.offset[group.index] + piece.unit).view(view)
                        units.index_copy_(
                            piece.dim,
                            torch.from_numpy(piece.position),
                            owner.expand(_sized(units, piece.dim, len(piece.unit))),
                        )
            if bool((units != self.count).any()):
                found[node.name] = units
        return found

    def ones(self, like: Tensor) -> Tensor:
        """Return the mask that changes nothing, shape (units + 1,)."""
        return torch.ones(self.count + 1, dtype=like.dtype, device=like.device)

    def mask(self, like: Tensor, removed: Mapping[int, np.ndarray[Any, Any]]) -> Tensor:
        """Return the mask that is zero at the removed units, given as group index to unit numbers."""
        mask = self.ones(like)
        for group, units in removed.items():
            mask[torch.from_numpy(self.offset[group] + units).to(mask.device)] = 0
        return mask


def _sized(units: Tensor, dim: int, size: int) -> list[int]:
    shape = list(units.shape)
    shape[dim] = size
    return shape


def _masked_norm(target: str, factor: Tensor, args: tuple[Any, ...]) -> Tensor:
    """Layer, RMS or group norm over the channels whose ``factor`` is one; ``factor`` has the scale's shape."""
    x: Tensor = args[0]
    size, scale, *rest = args[1:]
    bias = rest[0] if rest and "rms_norm" not in target else None
    numbers = [value for value in rest if isinstance(value, float)]
    if "group_norm" in target:
        shape = (x.shape[0], int(size), -1, *x.shape[2:])
        values, weights = (
            x.reshape(shape),
            factor.view(1, int(size), -1, *(1 for _ in x.shape[2:])).expand(1, int(size), -1, *x.shape[2:]),
        )
        dims = list(range(2, values.dim()))
        wide = (1, -1, *(1 for _ in x.shape[2:]))
        scale = scale.view(wide)
        bias = bias.view(wide) if bias is not None else None
    else:
        values, weights, dims = x, factor, [-1 - d for d in range(len(size))]
    count = weights.sum(dims, keepdim=True).clamp_min(1)
    if "rms_norm" not in target:
        values = values - (values * weights).sum(dims, keepdim=True) / count
    variance = (values.square() * weights).sum(dims, keepdim=True) / count
    eps = numbers[0] if numbers else torch.finfo(x.dtype).eps if "rms_norm" in target else 1e-5
    out: Tensor = (values * (variance + eps).rsqrt()).reshape(x.shape) * scale
    return out if bias is None else out + bias


class _Masked(Executor):
    """Runs a program with the inputs of layers, norms and products masked.

    Args:
        graph: The coupling graph.
        masking: Where the units enter.
        mask: The mask, shape (units + 1,), or None.
        values: One value per placeholder.
    """

    def __init__(self, graph: PruningGraph, masking: Masking, mask: Tensor | None, values: list[Any]) -> None:
        super().__init__(graph.program)
        placeholders = graph.program.graph.find_nodes(op="placeholder")
        self.given = dict(zip(placeholders, values, strict=True))
        self.computed: Mapping[str, ComputedWeight] = graph.computed
        self.masking = masking
        self.mask = mask

    def call(self, n: fx.Node, env: Mapping[fx.Node, Any]) -> Any:
        """Compute one node, with the channels that its mask removes at zero, or left out of what mixes them."""
        if n.op == "call_function" and "aten.detach" in str(n.target):
            return self.arguments(n, env)[0][0]  # a gradient must see through it
        masking = self.masking
        if self.mask is None or not any(
            n.name in known for known in (masking.consumers, masking.norms, masking.statistics, masking.products)
        ):
            return super().call(n, env)
        args, kwargs = self.arguments(n, env)
        if n.name in masking.statistics:
            dim, units = masking.statistics[n.name]
            factor = self.mask[units.to(self.mask.device)]
            kept = factor.nonzero()[:, 0]
            x = args[0].index_select(dim, kept)
            if self.mask.requires_grad:
                x = x * factor[kept].to(x.dtype).view([-1 if d == dim else 1 for d in range(x.dim())])
            return n.target(x, *args[1:], **kwargs)  # type: ignore[operator]
        if n.name in masking.products:
            operand, dim, units = masking.products[n.name]
            factor = self.mask[units.to(self.mask.device)]
            return n.target(*_scaled(args, operand, dim, factor), **kwargs)  # type: ignore[operator]
        if n.name in self.masking.norms:
            factor = self.mask[self.masking.norms[n.name].to(self.mask.device)]
            return _masked_norm(str(n.target), factor.to(args[0].dtype), args)
        index = self.masking.consumers[n.name]
        x = args[0]
        factor = self.mask[index.to(self.mask.device)].to(x.dtype)
        if "linear" not in str(n.target):
            factor = factor.view(1, -1, *(1 for _ in range(x.dim() - 2)))
        # A copy, since a later operator may overwrite x, which the mask's gradient needs.
        x = (x.clone() if self.mask.requires_grad else x) * factor
        if n.name in self.computed and self.computed[n.name].scale is None and not self.mask.requires_grad:
            kept = factor.flatten().nonzero()[:, 0]
            args = (x, self._weight(self.computed[n.name], args[1], kept), *args[2:])
        return n.target(x, *args[1:], **kwargs)  # type: ignore[operator]

    def _weight(self, computed: ComputedWeight, dense: Tensor, kept: Tensor) -> Tensor:
        """Return a weight computed from the input channels that are left, in the dense one's shape."""
        own = kept[kept < dense.shape[1]]  # of the first group's channels; the others are the same
        leaves = {node: self.given[node] for node in computed.names}
        leaves[computed.source] = leaves[computed.source].index_select(1, own)
        return torch.zeros_like(dense).index_copy_(1, own, computed.evaluate(leaves))


def _scaled(args: tuple[Any, ...], operand: int, dim: int, factor: Tensor) -> tuple[Any, ...]:
    """Return a product's arguments with one operand multiplied along one of its dimensions."""
    listed = isinstance(args[-1], (list, tuple))  # einsum's operands are a list
    operands = list(args[-1] if listed else args)
    x = operands[operand]
    operands[operand] = x * factor.to(x.dtype).view([-1 if d == dim else 1 for d in range(x.dim())])
    return (*args[:-1], operands) if listed else tuple(operands)


def placeholder_names(graph: PruningGraph, model: nn.Module) -> dict[str, str]:
    """Return for every lifted placeholder of the program the (first) name of its parameter or buffer."""
    names = tensor_names(model)
    return {
        spec.arg.name: names[spec.target]
        for spec in graph.program.graph_signature.input_specs
        if spec.target in names and isinstance(spec.arg, TensorArgument)
    }


def placeholder_values(graph: PruningGraph, model: nn.Module, inputs: ModelInputs, dtype: torch.dtype) -> list[Any]:
    """Return what the program's placeholders stand for, with a model's own tensors and constants on its device.

    Args:
        graph: The coupling graph.
        model: The model, or a copy of it with other values.
        inputs: What the model is called with.
        dtype: Type of constants that are not whole numbers.
    """
    tensors = {
        name: tensor
        for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for name, tensor in source
    }
    aliases = tensor_names(model)
    values: list[Any] = []
    given = iter(inputs.tensors)
    for spec in graph.program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            values.append(next(given) if isinstance(spec.arg, TensorArgument) else None)
        elif spec.target in tensors:
            values.append(tensors[aliases[spec.target]].detach())
        else:
            constant = graph.program.constants[spec.target or ""]
            if isinstance(constant, Tensor):
                constant = constant.to(inputs.device, dtype if constant.is_floating_point() else constant.dtype)
            values.append(constant)
    return values


def interpret(graph: PruningGraph, values: list[Any], masking: Masking, mask: Tensor | None) -> list[Tensor]:
    """Run the program and return its outputs that are tensors, flat.

    Args:
        graph: The coupling graph.
        values: One value per placeholder.
        masking: Where the units enter.
        mask: The mask, shape (units + 1,), or None.
    """
    outputs = _Masked(graph, masking, mask, values).execute(values)
    specs = graph.program.graph_signature.output_specs
    return [
        out
        for out, spec in zip(outputs, specs, strict=True)
        if spec.kind == OutputKind.USER_OUTPUT and isinstance(out, Tensor)
    ]
