"""Closed-form ridge least squares that stays near the original weights.

He et al. 2017 (equation 3) refit the weights that remain by min ||Y - XA||². We regularise towards the original weights
instead of towards zero, so that a layer with too few samples keeps what it had, and add an intercept where the layer has
somewhere to put it (BatchNorm or bias).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted affine map from inputs to outputs, for one or several independent problems (leading dimension g).

    Attributes:
        weight: Shape (g, d, o).
        intercept: Shape (g, o); zero if none was allowed.
        mean: Mean of the inputs, shape (g, d).
        variance: Variance of the fitted outputs over the samples, shape (g, o).
    """

    weight: Tensor
    intercept: Tensor
    mean: Tensor
    variance: Tensor


def fit_affine(inputs: Tensor, outputs: Tensor, prior: Tensor, *, ridge: float, intercept: bool) -> Fit:
    """Minimise ||Y - XA - b||² + λ ||A - A₀||², with λ = ``ridge`` times the mean second moment of the inputs.

    Solved in the primal (d x d) or the dual (P x P), whichever is smaller; float32 products, float64 factorisation.

    Args:
        inputs: X, shape (g, P, d).
        outputs: Y, shape (g, P, o).
        prior: A₀, shape (g, d, o).
        ridge: Strength of the pull towards A₀, relative.
        intercept: Whether b may differ from zero.
    """
    samples, width = inputs.shape[1:]
    mean, target = inputs.mean(dim=1), outputs.mean(dim=1)
    centred = inputs - mean[:, None] if intercept else inputs
    wanted = outputs - target[:, None] if intercept else outputs
    residual = wanted - centred @ prior
    damping = ridge * (centred.square().sum(dim=(1, 2)).double() / width).clamp(min=1e-12)  # (g,)
    if width <= samples:
        gram = (centred.mT @ centred).double()
        change = _ridge_solve(gram, (centred.mT @ residual).double(), damping)
        weight = prior + change.to(prior.dtype)
        second = (weight.double() * (gram @ weight.double())).sum(dim=1) / samples
    else:
        outer = (centred @ centred.mT).double()
        weight = prior + centred.mT @ _ridge_solve(outer, residual.double(), damping).to(prior.dtype)
        second = (centred @ weight).double().square().mean(dim=1)
    offset = target - (mean[:, None] @ weight)[:, 0] if intercept else torch.zeros_like(target)
    fitted = (mean[:, None] @ weight)[:, 0]
    variance = second.to(prior.dtype) if intercept else (second - fitted.double().square()).clamp(min=0).to(prior.dtype)
    return Fit(weight, offset, mean, variance)


def _ridge_solve(gram: Tensor, right: Tensor, damping: Tensor) -> Tensor:
    """Solve (gram + λI) Z = right for each problem, λ of shape (g,); λ is doubled until the factorisation succeeds."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(40):
        factor, info = torch.linalg.cholesky_ex(gram + damping[:, None, None] * eye)
        if not bool(info.any()):
            break
        damping = damping * 2
    return torch.cholesky_solve(right, factor)
