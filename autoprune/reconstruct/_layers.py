"""A layer's weights as the least-squares problem sees them, and back: BatchNorm folded in, BatchNorm restored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoprune.groups import Layer
from autoprune.reconstruct._lstsq import Fit
from autoprune.reconstruct._plan import Plan
from autoprune.reconstruct._steps import Affine

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
SMALLEST_GAIN = 1e-3


@dataclass(frozen=True, eq=False)
class Folded:
    """One layer with the BatchNorm behind it multiplied in.

    Attributes:
        weight: Shape (out, in / groups, *kernel); what maps the inputs to the *normalised* output.
        bias: Shape (out,).
        gain: γ / sqrt(σ² + eps) of the BatchNorm, shape (out,); ones without.
        intercept: Whether a refit may use an intercept.
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor
    intercept: bool


def fold(plan: Plan, step: Affine) -> Folded:
    """Fold the BatchNorm after ``step.layer`` into its weights."""
    layer = step.layer
    weight = plan.tensor_by_name(layer.weight)
    out = layer.out_channels
    bias = weight.new_zeros(out) if layer.bias is None else plan.tensor_by_name(layer.bias)
    if step.norm is None:
        return Folded(weight, bias, weight.new_ones(out), layer.bias is not None)
    scale, shift, mean, var = norm_tensors(plan, step)
    gain = scale / torch.sqrt(var + norm_eps(step))
    shape = (-1, *[1] * (weight.dim() - 1))
    return Folded(weight * gain.reshape(shape), shift + (bias - mean) * gain, gain, True)


def norm_tensors(plan: Plan, step: Affine) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return γ, β, μ, σ² of the BatchNorm after the layer, each of shape (out,)."""
    assert step.norm is not None
    scale, shift, mean, var = (
        plan.tensor(argument).detach() if isinstance(argument, torch.fx.Node) else None
        for argument in step.norm.args[1:5]
    )
    assert mean is not None
    assert var is not None
    return (
        torch.ones_like(mean) if scale is None else scale,
        torch.zeros_like(mean) if shift is None else shift,
        mean,
        var,
    )


def norm_eps(step: Affine) -> float:
    """Return the BatchNorm's eps."""
    assert step.norm is not None
    return float(step.norm.args[7])  # type: ignore[arg-type]


def norm_names(plan: Plan, step: Affine) -> list[str | None]:
    """Return the names of γ, β, μ, σ² in the state dict, None where the BatchNorm has none."""
    assert step.norm is not None
    return [
        plan.tensor_names.get(argument.name) if isinstance(argument, torch.fx.Node) else None
        for argument in step.norm.args[1:5]
    ]


def run_layer(layer: Layer, value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply the layer's operator with other weights: value (N, C, ...) to (N, out, ...)."""
    if layer.op == "linear":
        return F.linear(value, weight, bias)
    dims = len(layer.kernel)
    if layer.op == "conv":
        return _CONV[dims](value, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    raise ValueError(f"{layer.op} has no weights to replace")


def as_columns(layer: Layer, weight: Tensor) -> Tensor:
    """Reshape a weight (out, in / g, *kernel) to the least-squares unknown (g, kernel * in / g, out / g)."""
    return weight.movedim(1, -1).reshape(layer.groups, -1, weight[0].numel()).mT


def as_weight(columns: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Reshape (g, d, out / g) back to a weight (out, in / g, *kernel)."""
    groups, width, out = columns.shape
    return columns.mT.reshape(groups * out, *kernel, width // math.prod(kernel)).movedim(-1, 1)


def restore(plan: Plan, step: Affine, folded: Folded, fit: Fit) -> dict[str, Tensor]:
    """Turn a fit in the space of the normalised output back into tensors of the layer and its BatchNorm.

    The convolution's weights return to their original scale, the running statistics become those of the refitted layer on
    the calibration rows, and γ, β make the normalised output equal the fit.

    Args:
        plan: The plan that ran.
        step: The refitted step.
        folded: The layer before.
        fit: Its fit, weight of shape (g, d, out / g).

    Returns:
        State-dict names to tensors, all output channels still there.
    """
    layer = step.layer
    weight = as_weight(fit.weight, layer.kernel)
    intercept = fit.intercept.flatten()
    if step.norm is None:
        return {layer.weight: weight} | ({layer.bias: intercept} if layer.bias is not None else {})
    scale_name, shift_name, mean_name, var_name = norm_names(plan, step)
    assert mean_name is not None
    assert var_name is not None
    _, _, mean, var = norm_tensors(plan, step)
    eps = norm_eps(step)
    bias = folded.bias.new_zeros(()) if layer.bias is None else plan.tensor_by_name(layer.bias)
    if scale_name is None or shift_name is None:
        # No affine parameters to write to: statistics that make (Wx - μ') / sqrt(σ'² + eps) equal the fit.
        gain = folded.gain
        mean = bias - intercept / gain
    else:
        gain = torch.where(folded.gain.abs() < SMALLEST_GAIN, torch.ones_like(folded.gain), folded.gain)
        mean = fit.mean.flatten() / gain + bias
        var = fit.variance.flatten() / gain.square()
    restored = {
        layer.weight: weight / gain.reshape(-1, *[1] * (weight.dim() - 1)),
        mean_name: mean,
        var_name: var,
    }
    if scale_name is not None and shift_name is not None:
        restored[scale_name] = gain * torch.sqrt(var + eps)
        restored[shift_name] = intercept + (mean - bias) * gain
    return restored
