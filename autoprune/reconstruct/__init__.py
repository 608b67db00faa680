"""Statistics of the dense network, and the closed-form refit of a pruned one."""

from autoprune.reconstruct._blocks import FINISH_STEPS, FINISHES, Descent
from autoprune.reconstruct._choice import Choice
from autoprune.reconstruct._dense import DenseInputs
from autoprune.reconstruct._effort import affordable_rows, images_that_fit, refit_rows
from autoprune.reconstruct._engine import Backend
from autoprune.reconstruct._lstsq import Fit, fit_affine
from autoprune.reconstruct._plan import Plan
from autoprune.reconstruct._refit import CachedRefit, SequentialRefit
from autoprune.reconstruct._sequential import Refit
from autoprune.reconstruct._statistics import Moments, Statistics
from autoprune.reconstruct._steps import Affine, Call

__all__ = [
    "FINISHES",
    "FINISH_STEPS",
    "Affine",
    "Backend",
    "CachedRefit",
    "Call",
    "Choice",
    "DenseInputs",
    "Descent",
    "Fit",
    "Moments",
    "Plan",
    "Refit",
    "SequentialRefit",
    "Statistics",
    "affordable_rows",
    "fit_affine",
    "images_that_fit",
    "refit_rows",
]
