"""The closed form against numpy's least squares on the augmented system."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from autoprune.reconstruct import fit_affine

RIDGE = 1e-2


def reference(x: np.ndarray, y: np.ndarray, prior: np.ndarray, *, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Solve the ridge problem as one tall lstsq in double precision."""
    centre = x.mean(axis=0) if intercept else np.zeros(x.shape[1])
    damping = RIDGE * ((x - centre) ** 2).sum() / x.shape[1]
    tall = np.concatenate([x, np.sqrt(damping) * np.eye(x.shape[1])])
    right = np.concatenate([y, np.sqrt(damping) * prior])
    if intercept:
        ones = np.concatenate([np.ones(len(x)), np.zeros(x.shape[1])])
        tall = np.column_stack([tall, ones])
    found, *_ = np.linalg.lstsq(tall, right, rcond=None)
    return (found[:-1], found[-1]) if intercept else (found, np.zeros(y.shape[1]))


@pytest.mark.parametrize("samples", [40, 12], ids=["primal", "dual"])
@pytest.mark.parametrize("intercept", [True, False])
def test_equals_lstsq(samples: int, intercept: bool) -> None:
    rng = np.random.default_rng(samples)
    x, y, prior = (
        rng.normal(1.0, 1.0, (2, samples, 15)),
        rng.normal(2.0, 1.0, (2, samples, 3)),
        rng.normal(size=(2, 15, 3)),
    )
    fit = fit_affine(*(torch.from_numpy(a.copy()) for a in (x, y, prior)), ridge=RIDGE, intercept=intercept)
    for group in range(2):
        weight, offset = reference(x[group], y[group], prior[group], intercept=intercept)
        np.testing.assert_allclose(fit.weight[group], weight, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(fit.intercept[group], offset, rtol=1e-8, atol=1e-10)
        outputs = x[group] @ weight
        np.testing.assert_allclose(fit.mean[group], outputs.mean(axis=0), rtol=1e-8)
        np.testing.assert_allclose(fit.variance[group], outputs.var(axis=0), rtol=1e-6)


def test_constant_inputs_keep_the_prior() -> None:
    """A layer whose inputs never vary has nothing to fit: weights stay, the intercept takes the mean."""
    prior = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    fit = fit_affine(torch.ones(1, 30, 4), torch.full((1, 30, 2), 3.0), prior, ridge=RIDGE, intercept=True)
    torch.testing.assert_close(fit.weight, prior)
    torch.testing.assert_close(fit.intercept + prior.sum(dim=1), torch.full((1, 2), 3.0))


def behind(
    x: np.ndarray,
    y: np.ndarray,
    z: np.ndarray,
    prior: np.ndarray,
    saturation: tuple[float, float],
    weight: np.ndarray,
    bias: np.ndarray,
) -> float:
    """Return what a rectified fit minimises: the error where the output is inside, how far it comes in where it is beyond."""
    found = x @ weight + bias + z
    low, high = saturation
    error = np.where(
        y <= low, np.maximum(found - low, 0.0), np.where(y >= high, np.minimum(found - high, 0.0), y - found)
    )
    damping = RIDGE * ((x - x.mean(axis=0)) ** 2).sum() / x.shape[1]
    return float((error**2).sum() + damping * ((weight - prior) ** 2).sum())


@pytest.mark.parametrize("samples", [60, 9], ids=["primal", "dual"])
@pytest.mark.parametrize("saturation", [(0.0, math.inf), (-0.5, 1.0)])
def test_outputs_that_a_rectifier_cuts_off_are_free(samples: int, saturation: tuple[float, float]) -> None:
    rng = np.random.default_rng(samples)
    x, y, z = rng.normal(1.0, 1.0, (samples, 12)), rng.normal(size=(samples, 2)), rng.normal(size=(samples, 2))
    prior = rng.normal(size=(12, 2))

    def fitted(relu_iterations: int) -> tuple[np.ndarray, np.ndarray]:
        fit = fit_affine(
            *(torch.from_numpy(a.copy())[None] for a in (x, y, prior)),
            ridge=RIDGE,
            intercept=True,
            other=torch.from_numpy(z)[None],
            saturation=saturation,
            relu_iterations=relu_iterations,
        )
        return fit.weight[0].numpy(), fit.intercept[0].numpy()

    errors = [behind(x, y, z, prior, saturation, *fitted(relu_iterations)) for relu_iterations in range(6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[5] < errors[0]

    def objective(flattened: np.ndarray) -> float:
        return behind(x, y, z, prior, saturation, flattened[:24].reshape(12, 2), flattened[24:])

    best = minimize(objective, np.concatenate([prior.ravel(), np.zeros(2)]), method="BFGS", options={"gtol": 1e-7})
    assert behind(x, y, z, prior, saturation, *fitted(3000)) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("samples", [7, 40])
def test_known_moments_count_like_as_many_samples(samples: int) -> None:
    torch.manual_seed(3)
    inputs, outputs = torch.randn(1, samples, 12), torch.randn(1, samples, 5)
    others, theirs = torch.randn(1, 500, 12), torch.randn(1, 500, 5)
    prior = torch.randn(1, 12, 5)
    known = others.mT @ others / 500, others.mT @ theirs / 500
    fit = fit_affine(inputs.clone(), outputs, prior, ridge=0.0, intercept=False, prior_moments=known)
    weight = (samples / 500) ** 0.5  # 500 samples that count like as many as there are of the first
    stacked = torch.cat([inputs, weight * others], 1)[0], torch.cat([outputs, weight * theirs], 1)[0]
    expected = np.linalg.lstsq(stacked[0].double().numpy(), stacked[1].double().numpy(), rcond=None)[0]
    torch.testing.assert_close(fit.weight[0].double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-4)
    found = (inputs @ fit.weight)[0]  # the variance is that of the samples alone
    torch.testing.assert_close(fit.variance[0], found.var(0, unbiased=False), rtol=1e-3, atol=1e-4)
