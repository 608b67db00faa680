"""Random weights for a pruned architecture: the control of what its inherited weights are worth.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from autoprune.errors import UsageError
from autoprune.surgery import foldable, folded

_POWER_STEPS = 15  # as torch.nn.utils.parametrizations.spectral_norm begins with


def reinitialise(module: nn.Module, *, seed: int) -> None:
    """Give every parameter of a module, and every running statistic, a new first value, drawn from ``seed``.

    Convolutions get He's (normal, fan out: He et al. 2015, equation 14) and biases of zero; every other module what its
    own ``reset_parameters`` gives. What weights are computed from (weight norm, spectral norm, a parametrization) is set so that
    they come out as those values; masks of ``torch.nn.utils.prune`` and buffers that are no statistics stay.

    Raises:
        UsageError: if a module has parameters of its own that it cannot set anew.
    """
    inside = {part for owner in module.modules() for part in _inner(owner)}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for name, part in module.named_modules():
            if part not in inside:
                _renew_computed(name, part) if _hooks(part) or _inner(part) else _renew(name, part)


def _renew(name: str, part: nn.Module) -> None:
    """Set a module's own parameters, each of which is NaN before, so that none is kept unseen."""
    own = dict(part.named_parameters(recurse=False))
    for parameter in own.values():
        if parameter.is_floating_point():
            parameter.fill_(torch.nan)
    if isinstance(part, _ConvNd):
        nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        if part.bias is not None:
            nn.init.zeros_(part.bias)
    elif callable(reset := _reset_of(part)):
        reset()
    for key, parameter in own.items():
        if not bool(torch.isfinite(parameter).all()):
            raise _refusal(f"{name}.{key}".lstrip("."), part)


def _reset_of(part: nn.Module) -> Callable[[], Any] | None:
    name = "_reset_parameters" if isinstance(part, nn.MultiheadAttention) else "reset_parameters"
    found: Callable[[], Any] | None = getattr(part, name, None)
    return found


def _refusal(name: str, part: nn.Module) -> UsageError:
    return UsageError(
        f"The parameter '{name}' of a {type(part).__name__} cannot be initialised anew; give the module a method "
        "reset_parameters() that sets it, or fine-tune without --from-scratch."
    )


def _inner(module: nn.Module) -> list[nn.Module]:
    """Return the modules that compute a module's parametrized tensors."""
    return list(module.parametrizations.modules()) if parametrize.is_parametrized(module) else []  # type: ignore[union-attr]


def _hooks(module: nn.Module) -> dict[str, Any]:
    """Return the hooks of torch.nn.utils that compute a module's tensors, by the tensor's name."""
    hooks = module._forward_pre_hooks.values()
    found = {str(getattr(hook, "name", getattr(hook, "_tensor_name", ""))): hook for hook in hooks}
    return {
        tensor.tensor: found[tensor.tensor]
        for tensor in foldable(module)
        if not tensor.module and tensor.tensor in found
    }


def _renew_computed(name: str, part: nn.Module) -> None:
    """Set a module as its plain twin would be set, and what its tensors are computed from to match."""
    for inner in _inner(part):
        if not isinstance(inner, (nn.ModuleDict, parametrize.ParametrizationList)):
            _renew(name, inner)
    plain = folded(part, [tensor for tensor in foldable(part) if not tensor.module])
    _renew(name, plain)
    hooks = _hooks(part)
    for key, value in plain.named_parameters(recurse=False):
        if key in part._parameters:
            part.get_parameter(key).copy_(value)
        elif key in hooks:
            _through_hook(part, key, hooks[key], value)
        else:
            _through_parametrization(name, part, key, value)
    for (_, kept), (_, new) in zip(_statistics(part), _statistics(plain), strict=True):
        kept.copy_(new)


def _statistics(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for key, buffer in part.named_buffers(recurse=False):
        if key in ("running_mean", "running_var", "num_batches_tracked"):
            yield key, buffer


def _through_hook(part: nn.Module, key: str, hook: Any, value: Tensor) -> None:
    if isinstance(hook, WeightNorm):
        part.get_parameter(f"{key}_v").copy_(value)
        part.get_parameter(f"{key}_g").copy_(torch.norm_except_dim(value, 2, hook.dim))
    else:
        part.get_parameter(f"{key}_orig").copy_(value)
    if isinstance(hook, SpectralNorm):
        _restart(part.get_buffer(f"{key}_u"), part.get_buffer(f"{key}_v"), value, hook.dim)
    setattr(part, key, value.detach().clone())  # what the hook made of the old ones; it makes it anew before each pass


def _through_parametrization(name: str, part: nn.Module, key: str, value: Tensor) -> None:
    listed: Any = part.parametrizations[key]  # type: ignore[index]
    for inner in listed:
        if {"_u", "_v"} <= inner._buffers.keys():  # spectral norm's
            _restart(inner._u, inner._v, value, int(inner.dim))
    try:
        setattr(part, key, value.detach())
    except (NotImplementedError, RuntimeError, ValueError) as error:  # it has no way back from a value
        if not listed.is_tensor or listed.original.shape != value.shape:
            raise _refusal(f"{name}.{key}".lstrip("."), part) from error
        listed.original.copy_(value)


def _restart(u: Tensor, v: Tensor, weight: Tensor, dim: int) -> None:
    """Draw spectral norm's vectors anew and let them find the weight's largest singular value."""
    matrix = weight.movedim(dim, 0).flatten(1)
    u.normal_()
    for _ in range(_POWER_STEPS):
        v.copy_(F.normalize(matrix.mT @ u, dim=0))
        u.copy_(F.normalize(matrix @ v, dim=0))
