"""Physical pruning: an ordinary smaller copy of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import AutopruneError, UsageError
from autoprune.groups import PruningGraph
from autoprune.surgery._attributes import Change, update_attributes, update_sizes
from autoprune.surgery._calls import change_calls
from autoprune.surgery._copy import copy_module
from autoprune.surgery._fold import folded
from autoprune.surgery._plan import IndexPlan, Kept, plan_for
from autoprune.surgery._rescale import rescaled

_Cuts = list[tuple[int, Tensor]]
"""Dimension and the indices kept of it, for each dimension of a tensor that was cut."""


def prune_model(
    model: nn.Module, graph: PruningGraph, kept: Kept, *, tensors: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Return a smaller deep copy of ``model`` that has only the channels kept.

    Classes, hooks, attributes, dtypes, devices, memory formats, ``requires_grad``, training mode and the tying of
    weights are those of the original, which is not touched. Weights that shrink are never copied whole. Computed weights that
    ``graph.folded`` lists are ordinary parameters in the copy.

    Args:
        model: The model ``graph`` was built from, or one of the same structure.
        graph: Its coupling graph.
        kept: Group name -> sorted numbers of the channels kept, at least one each. Groups left out stay whole.
        tensors: State-dict entries that replace the narrowed ones, in the small shapes (refitted weights).

    Raises:
        UsageError: if ``kept`` names what does not exist or must not go, or ``tensors`` do not fit.
    """
    model = folded(model, graph.folded)
    owners = list(_named_modules(model))
    named = {prefix + name: tensor for prefix, module in owners for name, tensor in _own_tensors(module)}
    plan = plan_for(graph, named)
    stays = plan.stays(kept)
    indices = plan.indices(stays)
    memo: dict[int, Any] = {}
    narrowed = _narrow_all(named, plan, indices, memo)
    for vector, values in rescaled(graph, named, memo, narrowed):
        memo[id(vector)] = _like(values, vector)
    if tensors is not None:
        _replace(model, named, tensors, memo)
    for tensor in named.values():
        if id(tensor) not in memo:
            memo[id(tensor)] = _like(tensor.detach().clone(), tensor)
    small = copy_module(model, memo)
    if narrowed:
        for prefix, module in owners:
            _finish_module(prefix, module, memo, narrowed)
        update_sizes(small, plan.sizes(stays))
        change_calls(small, plan.calls(stays))
    return small


@torch.no_grad()
def copy_model(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model, also of one that `copy.deepcopy` refuses; it is not touched."""
    memo: dict[int, Any] = {}
    for _, module in _named_modules(model):
        for _, tensor in _own_tensors(module):
            if id(tensor) not in memo:
                memo[id(tensor)] = _like(tensor.detach().clone(), tensor)
    return copy_module(model, memo)


def _finish_module(prefix: str, module: nn.Module, memo: Mapping[int, Any], narrowed: Mapping[int, _Cuts]) -> None:
    """Update the copy's attributes where tensors were narrowed, and make sure that it holds them."""
    changed = {name: tensor for name, tensor in _weights(module) if id(tensor) in narrowed}
    if not changed:
        return
    new = memo.get(id(module))
    own = dict(_weights(new)) if isinstance(new, nn.Module) else {}
    if not isinstance(new, nn.Module) or any(own.get(name) is not memo[id(tensor)] for name, tensor in changed.items()):
        raise AutopruneError(
            f"The module '{prefix.rstrip('.')}' ({type(module).__name__}) copies itself in a way that surgery cannot "
            "follow; remove its `__deepcopy__` (or the like), or use `torch.nn` modules there."
        )
    with torch.no_grad():
        _narrow_cached(module, new, changed, narrowed)
        sources = [tensor for name, tensor in changed.items() if name.startswith("weight")]  # it may be parametrized
        weight = max(sources, key=Tensor.numel, default=None)
        kept = dict(narrowed[id(weight)]).get(0) if weight is not None else None
        update_attributes(
            new,
            kept,
            [Change(name, tuple(tensor.shape), tuple(own[name].shape)) for name, tensor in changed.items()],
        )


def _narrow_cached(
    module: nn.Module, new: nn.Module, changed: Mapping[str, Tensor], narrowed: Mapping[int, _Cuts]
) -> None:
    """Cut tensors that a hook computes and keeps as attributes: ``weight`` from ``weight_v`` or ``weight_orig``."""
    for name, value in module.__dict__.items():
        if not isinstance(value, Tensor):
            continue
        for source, tensor in changed.items():
            if source.startswith(f"{name}_") and tensor.shape == value.shape:
                small = value.detach()
                for dim, index in narrowed[id(tensor)]:
                    small = small.index_select(dim, index.to(small.device))
                new.__dict__[name] = small


def _named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every module once with its path and a dot ("layer1.0."), in the order of ``named_modules``."""
    seen: set[int] = set()
    stack: list[tuple[str, nn.Module]] = [("", model)]
    while stack:
        prefix, module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield prefix, module
        children = [(f"{prefix}{name}.", child) for name, child in module._modules.items() if child is not None]
        stack.extend(reversed(children))


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter
    for name, buffer in module._buffers.items():
        if buffer is not None:
            yield name, buffer


def _weights(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's own tensors, and those that its parametrizations compute them from."""
    yield from _own_tensors(module)
    parametrizations = getattr(module, "parametrizations", None)
    if isinstance(parametrizations, nn.Module):
        yield from parametrizations.named_parameters()


def _narrow_all(
    named: Mapping[str, Tensor], plan: IndexPlan, indices: list[Tensor | None], memo: dict[int, Any]
) -> dict[int, _Cuts]:
    """Put the narrowed tensors into ``memo``; return their ids with the indices kept of each dimension that was cut."""
    on_device: dict[tuple[int, torch.device], Tensor] = {}
    narrowed: dict[int, _Cuts] = {}
    for name, cuts in plan.cuts.items():
        tensor = named.get(name)
        if tensor is None:
            raise UsageError(
                f"The coupling graph names the tensor '{name}', which this model does not have; "
                "build the graph from this model."
            )
        plan.check(name, tuple(tensor.shape))
        small = tensor.detach()
        done: _Cuts = []
        for cut in cuts:
            index = indices[cut.pattern]
            if index is None:
                continue
            key = (cut.pattern, tensor.device)
            if key not in on_device:
                on_device[key] = index.to(tensor.device)
            small = small.index_select(cut.dim, on_device[key])
            done.append((cut.dim, index))
        if small.shape != tensor.shape:
            memo[id(tensor)] = _like(small, tensor)
            narrowed[id(tensor)] = done
    return narrowed


def _like(data: Tensor, original: Tensor) -> Tensor:
    """Return ``data`` with the class, memory format and ``requires_grad`` of ``original``."""
    if data.shape != original.shape:
        memory_format = _memory_format(original)
        if memory_format is not torch.contiguous_format:
            data = torch.empty(data.shape, dtype=data.dtype, device=data.device, memory_format=memory_format).copy_(
                data
            )
    if type(original) is nn.Parameter:
        return nn.Parameter(data, requires_grad=original.requires_grad)
    if isinstance(original, nn.Parameter):
        data = data.as_subclass(type(original))
    return data.requires_grad_(original.requires_grad) if data.is_floating_point() or data.is_complex() else data


def _memory_format(tensor: Tensor) -> torch.memory_format:
    """Tell channels-last weights from contiguous ones by their strides (a 1x1 kernel is contiguous in both)."""
    for dims, channels_last in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if tensor.dim() == dims and tensor.is_contiguous(memory_format=channels_last):
            plain = torch.empty(tensor.shape, device="meta").stride()
            return torch.contiguous_format if tensor.stride() == plain else channels_last
    return torch.contiguous_format


def _replace(
    model: nn.Module, named: Mapping[str, Tensor], tensors: Mapping[str, Tensor], memo: dict[int, Any]
) -> None:
    """Copy the given entries into the new tensors in ``memo``."""
    if not tensors.keys() <= named.keys():  # A module used twice has two names in the state dict.
        named = {**model.state_dict(keep_vars=True), **named}
    for name, value in tensors.items():
        original = named.get(name)
        if original is None:
            raise UsageError(f"The weights hold '{name}', which this model does not have.")
        expected = memo[id(original)].shape if id(original) in memo else original.shape
        if value.shape != expected:
            raise UsageError(
                f"'{name}' has shape {tuple(value.shape)} in the weights but {tuple(expected)} in the pruned model; "
                "weights and policy must come from the same run."
            )
        memo[id(original)] = _like(_copied(value, original), original)


def _copied(value: Tensor, original: Tensor) -> Tensor:
    small = torch.empty(
        value.shape, dtype=original.dtype, device=original.device, memory_format=_memory_format(original)
    )
    return small.copy_(value.detach())
