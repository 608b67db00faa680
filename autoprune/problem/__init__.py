"""The problem that a policy answers: a model, data, a budget, and a backend that prunes. It knows no agent."""

from autoprune.problem._finished import Finished
from autoprune.problem._limits import decidable, decide
from autoprune.problem._problem import TURNS, Problem
from autoprune.problem._stopwatch import excess, measured_values, met

__all__ = [
    "TURNS",
    "Finished",
    "Problem",
    "decidable",
    "decide",
    "excess",
    "measured_values",
    "met",
]
