"""A copy of a model on which every channel matters, so that a proof on it cannot be vacuous."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from autoprune.model_guard import ModelInputs

TINY = 1e-3


def _uniform(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    return (low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)).to(like)


def _normal(like: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    return (scale * torch.randn(like.shape, generator=generator, dtype=torch.float64)).to(like)


def _wake(tensor: Tensor, generator: torch.Generator) -> None:
    """Give rows of a weight that are (next to) zero, and vectors that are, values of an ordinary size."""
    if tensor.dim() < 2 or sum(size > 1 for size in tensor.shape) < 2:
        if tensor.abs().max() < 10 * TINY:
            tensor.copy_(_uniform(tensor, 0.1, 0.5, generator))
        return
    rows = tensor.reshape(tensor.shape[0], -1)
    norm = rows.norm(dim=1)
    largest = norm.max()
    dead = norm <= TINY * largest if largest > 0 else torch.ones_like(norm, dtype=torch.bool)
    if dead.any():
        scale = float(largest) / rows.shape[1] ** 0.5 if largest > 0 else rows.shape[1] ** -0.5
        rows[dead] = _normal(rows[dead], scale, generator)
        tensor.copy_(rows.view(tensor.shape))


@torch.no_grad()
def randomised(double: nn.Module, inputs: ModelInputs, generator: torch.Generator) -> nn.Module:
    """Change a copy of the user's model so that its norms and vectors let every channel through; in eval mode.

    Batch-norm scales, shifts and statistics are drawn around the statistics of the inputs; tensors that are zero where a
    network starts out (a last scale, a layer scale) get ordinary sizes.

    Args:
        double: The copy, of the dtype of the inputs.
        inputs: A batch of at least two.
        generator: Source of the random numbers, on the CPU.
    """
    norms = [module for module in double.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        if norm.weight is not None:
            norm.weight.copy_(_uniform(norm.weight, 0.5, 1.5, generator))
            norm.bias.copy_(_normal(norm.bias, 0.3, generator))
    owned = {id(p) for norm in norms for p in norm.parameters()}
    for parameter in double.parameters():
        if id(parameter) not in owned and parameter.is_floating_point() and parameter.numel():
            _wake(parameter, generator)
    _measure(double, norms, inputs)
    for norm in norms:
        if norm.running_mean is not None and norm.running_var is not None:
            spread = norm.running_var.clamp_min(TINY).sqrt()
            norm.running_mean.add_(spread * _normal(spread, 0.2, generator))
            norm.running_var.clamp_min_(TINY).mul_(_uniform(spread, 0.7, 1.4, generator))
    return double


def _measure(model: nn.Module, norms: list[_BatchNorm], inputs: ModelInputs) -> None:
    """Set the batch norms' statistics to those of the inputs; where that fails, the model's own stay."""
    measured = [norm for norm in norms if norm.track_running_stats]
    before = [norm.momentum for norm in measured]
    for norm in measured:
        norm.train()
        norm.momentum = 1.0
    try:
        inputs.call(model)
    except (RuntimeError, ValueError):
        pass
    finally:
        for norm, momentum in zip(measured, before, strict=True):
            norm.eval()
            norm.momentum = momentum
