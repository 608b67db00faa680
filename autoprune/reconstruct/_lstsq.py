"""Closed-form ridge least squares that stays near the original weights.

He et al. 2017 (equation 3) refit the weights that remain by min ||Y - XA||². We regularise towards the original weights
instead of towards zero, so that a layer with too few samples keeps what it had, and add an intercept where the layer has
somewhere to put it (BatchNorm or bias).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from autoprune.support.cholesky import cholesky

RIDGE = 3e-3
"""Pull of the least squares towards the original weights, relative to the mean second moment of the inputs."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted affine map from inputs to outputs, for one or several independent problems (leading dimension g).

    Attributes:
        weight: Shape (g, d, o).
        intercept: Shape (g, o); zero if none was allowed.
        mean: Mean of the fitted outputs over the samples, without the intercept, shape (g, o).
        variance: Variance of the fitted outputs over the samples, shape (g, o).
    """

    weight: Tensor
    intercept: Tensor
    mean: Tensor
    variance: Tensor


def fit_affine(
    inputs: Tensor,
    outputs: Tensor,
    prior: Tensor,
    *,
    ridge: float,
    intercept: bool,
    other: Tensor | None = None,
    saturation: tuple[float, float] | None = None,
    relu_iterations: int = 0,
    prior_moments: tuple[Tensor, Tensor] | None = None,
) -> Fit:
    """Minimise ||Y - (XA + b + Z)||² + λ ||A - A₀||², with λ = ``ridge`` times the mean second moment of the inputs.

    With ``prior_moments``, P samples of which only the moments are given are added, which makes few samples enough: the dense
    network's, of which there are many, are not much unlike the pruned one's.

    Solved in the primal (d x d) or the dual (P x P), whichever is smaller; float32 products, float64 factorisation.

    Where a rectifier follows, what matters is not how far a value is below 0 but that it is: with ``saturation``, outputs beyond
    its bounds are free to be anything beyond them. They and (A, b) are solved for alternately (after Zhang et al., "Accelerating
    Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016, section 3.1): the factorisation stays, and
    no iteration makes what is minimised larger.

    Args:
        inputs: X, shape (g, P, d); centred in place.
        outputs: Y, shape (g, P, o).
        prior: A₀, shape (g, d, o).
        ridge: Strength of the pull towards A₀, relative.
        intercept: Whether b may differ from zero.
        other: Z, what is added to the result afterwards, shape (g, P, o).
        saturation: Bounds beyond which the outputs' values do not matter: (0, inf) where a ReLU follows.
        relu_iterations: How often outputs beyond the bounds are set anew.
        prior_moments: Mean XᵀX and XᵀY of the other samples, shapes (g, d, d) and (g, d, o), centred where there is an intercept.

    Raises:
        AutopruneError: if the inputs hold NaN or infinite values.
    """
    samples, width = inputs.shape[1:]
    mean = inputs.mean(dim=1)
    if intercept:
        inputs = inputs.sub_(mean[:, None])
    primal = prior_moments is not None or width <= samples
    gram = own = (second_moments(inputs) if primal else inputs @ inputs.mT).double()
    if prior_moments is not None:
        gram = own + samples * prior_moments[0].double()
    damping = ridge * (gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / width).clamp(min=1e-12)
    factor = cholesky(gram, damping, what="A layer's weights")
    pull = gram @ prior.double() if primal else inputs @ prior
    if prior_moments is not None:
        pull -= samples * prior_moments[1].double()
    wanted = outputs
    for iteration in range(relu_iterations + 1 if saturation is not None else 1):
        target = wanted if other is None else wanted - other
        offset = target.mean(dim=1) if intercept else torch.zeros_like(target[:, 0])
        target = target - offset[:, None]
        if primal:
            weight = prior + torch.cholesky_solve((inputs.mT @ target).double() - pull, factor).to(prior.dtype)
        else:
            weight = prior + inputs.mT @ torch.cholesky_solve((target - pull).double(), factor).to(prior.dtype)
        if saturation is not None and iteration < relu_iterations:
            found = inputs @ weight + offset[:, None]
            wanted = _beyond(outputs, found if other is None else found + other, saturation)
    if primal:
        second = (weight.double() * (own @ weight.double())).sum(dim=1) / samples
    else:
        second = (inputs @ weight).double().square().mean(dim=1)
    fitted = (mean[:, None] @ weight)[:, 0]
    bias = offset - fitted if intercept else offset
    variance = second if intercept else (second - fitted.double().square()).clamp(min=0)
    return Fit(weight, bias, fitted, variance.to(prior.dtype))


def second_moments(inputs: Tensor, *, block: int = 128) -> Tensor:
    """Return XᵀX of X, shape (g, P, d): its upper half by blocks of columns, the lower half mirrored."""
    width = inputs.shape[-1]
    if width < 2 * block:
        return inputs.mT @ inputs
    gram = inputs.new_zeros(len(inputs), width, width)
    for first in range(0, width, block):
        gram[:, first : first + block, first:] = inputs[..., first : first + block].mT @ inputs[..., first:]
    upper = gram.triu()
    return upper + upper.triu(1).mT


def _beyond(outputs: Tensor, found: Tensor, saturation: tuple[float, float]) -> Tensor:
    """Return the outputs, those beyond the bounds as near to what was found as they can be without coming inside."""
    low, high = saturation
    wanted = torch.where(outputs <= low, found.clamp(max=low), outputs)
    return wanted if math.isinf(high) else torch.where(outputs >= high, found.clamp(min=high), wanted)
