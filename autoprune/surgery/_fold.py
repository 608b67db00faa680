"""Computed weights that surgery turns into ordinary ones: spectral norm, masks of ``torch.nn.utils.prune``, parametrizations.

A part of such a weight's parameters gives another weight than a part of the weight: the largest singular value of fewer rows is
another. So where the graph cannot follow the computation, the small network gets what it gives in eval mode as a plain parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from autoprune.groups import FoldedTensor
from autoprune.surgery._copy import copy_module

_ENDINGS = ("_orig", "_mask", "_u", "_v", "_g")
"""What the hooks of torch.nn.utils add to the name of a tensor for those that it is computed from."""


@dataclass(frozen=True)
class _Hooked:
    """A hook of torch.nn.utils on a module, and the tensor that it computes."""

    number: int
    hook: Any
    tensor: str

    @property
    def kind(self) -> str:
        if isinstance(self.hook, SpectralNorm):
            return "spectral norm"
        return "weight norm" if isinstance(self.hook, WeightNorm) else "masks"


def foldable(model: nn.Module) -> dict[FoldedTensor, tuple[str, ...]]:
    """Return the tensors of a model that hooks and parametrizations of torch compute, with what they are computed from.

    Args:
        model: Any model.

    Returns:
        For each such tensor the names of parameters and buffers, as in ``named_parameters`` and ``named_buffers``.
    """
    found: dict[FoldedTensor, tuple[str, ...]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            prefix = f"{path}." if path else ""
            for hooked in _hooks(module):
                names = [name for name in _tensor_names(module) if name in _sources(hooked.tensor)]
                found[FoldedTensor(path, hooked.tensor, hooked.kind)] = tuple(prefix + name for name in names)
            for tensor, listed in _parametrizations(module):
                kinds = dict.fromkeys(_kind(part) for part in listed)
                names = [f"{prefix}parametrizations.{tensor}.{name}" for name in _tensor_names(listed, recurse=True)]
                found[FoldedTensor(path, tensor, ", ".join(kinds))] = tuple(names)
    return found


@torch.no_grad()
def folded(model: nn.Module, tensors: Sequence[FoldedTensor]) -> nn.Module:
    """Return a copy of a model in which computed tensors are ordinary parameters of the same values.

    All other parameters and buffers are the model's own, not copies. The model is not touched; it is returned itself if nothing
    in it is computed any longer.

    Args:
        model: The model.
        tensors: Which; those of modules that compute them no longer are left out.
    """
    paths = {tensor.module for tensor in tensors}
    modules = {path: module for path, module in model.named_modules() if path in paths and _computes(module)}
    if not modules:
        return model
    memo: dict[int, Any] = {id(tensor): tensor for tensor in _tensors(model)}
    for module in modules.values():
        memo.update({id(tensor): _twin(tensor) for tensor in _tensors(module)})
    new = copy_module(model, memo)
    chosen = {(tensor.module, tensor.tensor) for tensor in tensors}
    for path in modules:
        module = new.get_submodule(path)
        training = {part: part.training for part in module.modules()}
        module.eval()
        for hooked in reversed([hooked for hooked in _hooks(module) if (path, hooked.tensor) in chosen]):
            _remove(module, hooked)
        if any((path, tensor) in chosen for tensor, _ in _parametrizations(module)):
            _plain(module)
        for part, mode in training.items():
            part.training = mode
    return new


def _computes(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module) or next(_hooks(module), None) is not None


def _hooks(module: nn.Module) -> Iterator[_Hooked]:
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, (SpectralNorm, WeightNorm)):
            yield _Hooked(number, hook, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            yield _Hooked(number, hook, hook._tensor_name)


def _sources(tensor: str) -> set[str]:
    return {tensor + ending for ending in _ENDINGS}


def _parametrizations(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the names of a module's parametrized tensors, with the lists of what computes them."""
    return list(module.parametrizations.items()) if parametrize.is_parametrized(module) else []  # type: ignore[union-attr, operator]


def _kind(part: nn.Module) -> str:
    name = type(part).__name__.strip("_")
    return {"SpectralNorm": "spectral norm", "WeightNorm": "weight norm"}.get(name, name)


def _tensor_names(module: nn.Module, *, recurse: bool = False) -> list[str]:
    named = (module.named_parameters(recurse=recurse), module.named_buffers(recurse=recurse))
    return [name for source in named for name, _ in source]


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _twin(tensor: Tensor) -> Tensor:
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, requires_grad=tensor.requires_grad)
    return copied


def _remove(module: nn.Module, hooked: _Hooked) -> None:
    """Take a hook off, as torch.nn.utils does, and keep what it computes as a parameter."""
    name = hooked.tensor
    trained = any(
        parameter.requires_grad for own, parameter in module.named_parameters(recurse=False) if own in _sources(name)
    )
    hooked.hook.remove(module)
    del module._forward_pre_hooks[hooked.number]
    for registered in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for number, hook in list(registered.items()):
            inner = getattr(hook, "hook", hook)  # torch wraps those that load
            if getattr(getattr(inner, "fn", None), "name", None) == name:
                del registered[number]
    getattr(module, name).requires_grad_(trained)


def _plain(module: nn.Module) -> None:
    """Give a parametrized module its own class back, with all that it computes as plain tensors."""
    values: dict[str, tuple[Tensor, list[nn.Parameter]]] = {}
    for name, listed in _parametrizations(module):
        values[name] = getattr(module, name).detach().clone(), list(listed.parameters(recurse=False))
    # Not by torch's own remover, which changes the class: the user's module is of it, too.
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, (value, parameters) in values.items():
        if parameters:
            trained = any(parameter.requires_grad for parameter in parameters)
            module.register_parameter(name, nn.Parameter(value, requires_grad=trained))
        else:
            module.register_buffer(name, value)
