"""The problem that a policy answers: a model, data, a budget, and what prunes and scores. It knows no agent.

Its parts, each of which can be had alone: `trace` (graph and proof), `under_budget` (decisions, costs, projection), `Pruner`
(statistics, selection, refit), `Scorer` (evaluation); `make_problem` makes all of them.
"""

from autoprune.problem._budgeted import Budgeted, under_budget
from autoprune.problem._finished import Finished
from autoprune.problem._limits import decidable, decide
from autoprune.problem._make import make_problem
from autoprune.problem._problem import Problem
from autoprune.problem._pruner import TURNS, Pruner
from autoprune.problem._scorer import Scorer
from autoprune.problem._stopwatch import excess, measured_values, met
from autoprune.problem._traced import Traced, trace

__all__ = [
    "TURNS",
    "Budgeted",
    "Finished",
    "Problem",
    "Pruner",
    "Scorer",
    "Traced",
    "decidable",
    "decide",
    "excess",
    "make_problem",
    "measured_values",
    "met",
    "trace",
    "under_budget",
]
