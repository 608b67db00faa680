"""Cholesky factors that exist: a failed factorisation is damped more, and one that cannot succeed is one error."""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.errors import AutopruneError

_TRIES = 40


def cholesky(matrix: Tensor, damping: Tensor | float = 0.0, *, what: str) -> Tensor:
    """Return L with LLᵀ = matrix + λI; λ begins with ``damping`` and is doubled until the factor exists.

    Args:
        matrix: Symmetric matrices, shape (..., d, d).
        damping: λ of each matrix, shape (...).
        what: What is solved with the factor, for the message.

    Raises:
        AutopruneError: if none exists, because a matrix holds NaN or infinite values.
    """
    added = torch.as_tensor(damping, dtype=matrix.dtype, device=matrix.device)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    for _ in range(_TRIES):
        found = torch.linalg.cholesky_ex(matrix + added[..., None, None] * eye if bool((added != 0).any()) else matrix)
        if not bool(found.info.any()) and bool(found.L.isfinite().all()):
            factor: Tensor = found.L
            return factor
        smallest = torch.finfo(matrix.dtype).eps * matrix.diagonal(dim1=-2, dim2=-1).abs().mean(dim=-1)
        added = torch.maximum(2 * added, smallest.clamp(min=torch.finfo(matrix.dtype).tiny))
    raise AutopruneError(
        f"{what} cannot be solved for: the statistics over the calibration images hold values that are NaN, infinite or too "
        "large to square; look at the calibration images, and at what the network makes of them (`autoprune eval`)."
    )
