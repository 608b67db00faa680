"""Measured latency of the target that will run the network, as a cost that a budget can limit."""

from autoprune.latency._check import Ratio, measured_ratio
from autoprune.latency._cost import LatencyCost
from autoprune.latency._design import lines
from autoprune.latency._measure import profile_model, refine
from autoprune.latency._profile import Multiple, Profile
from autoprune.latency._rounding import best_multiple, measure_multiples
from autoprune.latency._target import Target

__all__ = [
    "LatencyCost",
    "Multiple",
    "Profile",
    "Ratio",
    "Target",
    "best_multiple",
    "lines",
    "measure_multiples",
    "measured_ratio",
    "profile_model",
    "refine",
]
