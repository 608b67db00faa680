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
        inputs: X, shape (g, P, d); centred in place.
        outputs: Y, shape (g, P, o).
        prior: A₀, shape (g, d, o).
        ridge: Strength of the pull towards A₀, relative.
        intercept: Whether b may differ from zero.
    """
    samples, width = inputs.shape[1:]
    mean, target = inputs.mean(dim=1), outputs.mean(dim=1)
    if intercept:
        inputs, outputs = inputs.sub_(mean[:, None]), outputs - target[:, None]
    if width <= samples:
        gram = (inputs.mT @ inputs).double()
        damping = ridge * gram.diagonal(dim1=-2, dim2=-1).mean(dim=-1).clamp(min=1e-12)
        right = (inputs.mT @ outputs).double() - gram @ prior.double()
        weight = prior + _ridge_solve(gram, right, damping).to(prior.dtype)
        second = (weight.double() * (gram @ weight.double())).sum(dim=1) / samples
    else:
        outer = (inputs @ inputs.mT).double()
        damping = ridge * (outer.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / width).clamp(min=1e-12)
        residual = (outputs - inputs @ prior).double()
        weight = prior + inputs.mT @ _ridge_solve(outer, residual, damping).to(prior.dtype)
        second = (inputs @ weight).double().square().mean(dim=1)
    fitted = (mean[:, None] @ weight)[:, 0]
    offset = target - fitted if intercept else torch.zeros_like(target)
    variance = second if intercept else (second - fitted.double().square()).clamp(min=0)
    return Fit(weight, offset, mean, variance.to(prior.dtype))


def _ridge_solve(gram: Tensor, right: Tensor, damping: Tensor) -> Tensor:
    """Solve (gram + λI) Z = right for each problem, λ of shape (g,); λ is doubled until the factorisation succeeds."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    for _ in range(40):
        factor, info = torch.linalg.cholesky_ex(gram + damping[:, None, None] * eye)
        if not bool(info.any()):
            break
        damping = damping * 2
    return torch.cholesky_solve(right, factor)
