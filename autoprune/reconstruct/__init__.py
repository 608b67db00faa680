"""Statistics of the dense network, and the closed-form refit of a pruned one."""

from autoprune.reconstruct._engine import Backend, affordable_rows, images_that_fit
from autoprune.reconstruct._lstsq import Fit, fit_affine
from autoprune.reconstruct._plan import Affine, Call, Plan
from autoprune.reconstruct._sequential import Refit, sequential_refit
from autoprune.reconstruct._statistics import Moments, Statistics

__all__ = [
    "Affine",
    "Backend",
    "Call",
    "Fit",
    "Moments",
    "Plan",
    "Refit",
    "Statistics",
    "affordable_rows",
    "fit_affine",
    "images_that_fit",
    "sequential_refit",
]
