"""A factor is one of what was asked for, or there is an error: never one that the factorisation itself calls wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autoprune.agents._surrogate import Surrogate
from autoprune.errors import AutopruneError
from autoprune.reconstruct import fit_affine
from autoprune.select import Consumer, SelectionInputs, selections
from autoprune.support.cholesky import cholesky


def semidefinite(rank: int, size: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    half = torch.randn(3, size, rank, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return half @ half.mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 1, 3, 6])
@pytest.mark.parametrize("damping", [0.0, 1e-6])
def test_the_factor_is_that_of_the_matrix_with_little_added(rank: int, damping: float, dtype: torch.dtype) -> None:
    matrix = semidefinite(rank, dtype=dtype)
    factor = cholesky(matrix, damping, what="Something")
    assert factor.isfinite().all()
    added = factor @ factor.mT - matrix
    assert (added - torch.diag_embed(added.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-5 * max(rank, 1)
    assert added.diagonal(dim1=-2, dim2=-1).max() < 1e-4


def test_a_slightly_indefinite_matrix_is_damped() -> None:
    matrix = semidefinite(6) - 1e-3 * torch.eye(6, dtype=torch.float64)
    matrix[0] = torch.diag(torch.tensor([1.0, 1, 1, 1, 1, -1e-6], dtype=torch.float64))
    factor = cholesky(matrix, what="Something")
    smallest = torch.linalg.eigvalsh(factor @ factor.mT - matrix)
    assert (smallest > -1e-12).all()
    assert (smallest < 1e-4).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_has_no_factor_is_one_error(value: float) -> None:
    matrix = semidefinite(6)
    matrix[1, 2, 2] = value
    with pytest.raises(AutopruneError, match=r"^Something cannot be solved for: .* NaN, infinite"):
        cholesky(matrix, 0.1, what="Something")


@pytest.mark.parametrize("samples", [40, 6], ids=["primal", "dual"])
def test_a_fit_of_nan_is_that_error(samples: int) -> None:
    inputs = torch.randn(1, samples, 9)
    inputs[0, 3, 2] = math.nan
    with pytest.raises(AutopruneError, match="A layer's weights cannot be solved for"):
        fit_affine(inputs, torch.randn(1, samples, 2), torch.randn(1, 9, 2), ridge=1e-2, intercept=True)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("select", ["obs"])
def test_a_choice_from_nan_is_that_error(select: str, value: float) -> None:
    gram = semidefinite(6)[0]
    gram[2, 2] = value
    consumer = Consumer(gram, torch.randn(6, 4, dtype=torch.float64), torch.arange(6))
    inputs = SelectionInputs(6, {"moments": (consumer,), "magnitude": torch.ones(6)})
    with pytest.raises(AutopruneError, match="Which channels stay cannot be solved for"):
        selections.get(select)().keep(inputs, 3)


@pytest.mark.parametrize("where", ["scores", "errors"])
def test_a_belief_from_nan_is_an_error_that_names_the_agent(where: str) -> None:
    curves = [np.linspace(1.0, 0.0, 9) ** 2 for _ in range(3)]
    scores = np.linspace(0.1, 0.3, 5)
    if where == "scores":
        scores[2] = math.nan
    else:
        curves[1][4] = math.nan
    counts = np.random.default_rng(0).integers(1, 9, (5, 3))
    counts[0, 1] = 4
    with pytest.raises(AutopruneError, match="The auto agent cannot learn from the scores so far"):
        Surrogate(curves, [8, 8, 8]).fit(counts, scores)
