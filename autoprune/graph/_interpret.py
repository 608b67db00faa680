"""Runs an exported program on tensors of one's choice, with the input channels of its layers masked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from autoprune.graph._trace import tensor_names
from autoprune.graph._types import Group, PruningGraph


class Masking:
    """Where the units of some groups enter the layers that consume them.

    All units of all groups are numbered through; a mask is one vector over them, with a last entry of one for channels
    that belong to none of the groups.

    Args:
        graph: The coupling graph.
        groups: The groups whose units are masked.
    """

    def __init__(self, graph: PruningGraph, groups: tuple[Group, ...]) -> None:
        offset = np.full(len(graph.groups), -1, dtype=np.int64)
        self.count = 0
        for group in groups:
            offset[group.index] = self.count
            self.count += group.size
        self.offset = offset
        self.index: dict[str, Tensor] = {}
        for layer in graph.layers:
            if layer.groups == 1 and layer.in_group.size:
                inside = (layer.in_group >= 0) & (offset[layer.in_group] >= 0)
                if inside.any():
                    index = np.where(inside, offset[layer.in_group] + layer.in_unit, self.count)
                    self.index[layer.node] = torch.from_numpy(index)

    def ones(self, like: Tensor) -> Tensor:
        """Return the mask that changes nothing, shape (units + 1,)."""
        return torch.ones(self.count + 1, dtype=like.dtype, device=like.device)

    def mask(self, like: Tensor, removed: Mapping[int, np.ndarray[Any, Any]]) -> Tensor:
        """Return the mask that is zero at the removed units, given as group index to unit numbers."""
        mask = self.ones(like)
        for group, units in removed.items():
            mask[torch.from_numpy(self.offset[group] + units).to(mask.device)] = 0
        return mask


class _Interpreter(fx.Interpreter):
    def __init__(self, graph: PruningGraph, masking: Masking, mask: Tensor | None) -> None:
        super().__init__(graph.program.graph_module)
        self.masking = masking
        self.mask = mask

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function" and "aten.detach" in str(n.target):
            return self.fetch_args_kwargs_from_env(n)[0][0]  # a gradient must see through it
        index = self.masking.index.get(n.name)
        if self.mask is None or index is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        x = args[0]
        factor = self.mask[index.to(self.mask.device)].to(x.dtype)
        if "linear" not in str(n.target):
            factor = factor.view(1, -1, *(1 for _ in range(x.dim() - 2)))
        # A copy, since a later operator may overwrite x, which the mask's gradient needs.
        x = (x.clone() if self.mask.requires_grad else x) * factor
        return n.target(x, *args[1:], **kwargs)  # type: ignore[operator]


def placeholder_values(graph: PruningGraph, model: nn.Module, images: Tensor) -> list[Any]:
    """Return what the program's placeholders stand for, with a model's own tensors and constants on its device.

    Args:
        graph: The coupling graph.
        model: The model, or a copy of it with other values.
        images: Input, shape (N, C, H, W).
    """
    tensors = {
        name: tensor
        for source in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for name, tensor in source
    }
    aliases = tensor_names(model)
    values: list[Any] = []
    for spec in graph.program.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            values.append(images)
        elif spec.target in tensors:
            values.append(tensors[aliases[spec.target]].detach())
        else:
            constant = graph.program.constants[spec.target or ""]
            if isinstance(constant, Tensor):
                constant = constant.to(images.device, images.dtype if constant.is_floating_point() else constant.dtype)
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
    outputs = _Interpreter(graph, masking, mask).run(*values)
    specs = graph.program.graph_signature.output_specs
    return [
        out
        for out, spec in zip(outputs, specs, strict=True)
        if spec.kind == OutputKind.USER_OUTPUT and isinstance(out, Tensor)
    ]
