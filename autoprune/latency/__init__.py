"""Measured latency of the target that will run the network, as a cost that a budget can limit."""

from autoprune.latency._check import Ratio, measured_ratio, ratio_check
from autoprune.latency._cost import LatencyCost
from autoprune.latency._measure import PLACEMENTS, profile_model, refine
from autoprune.latency._profile import Multiple, Profile
from autoprune.latency._refine import PricedGroups, refine_around
from autoprune.latency._rounding import best_multiple, measure_multiples
from autoprune.latency._target import Target

__all__ = [
    "PLACEMENTS",
    "LatencyCost",
    "Multiple",
    "PricedGroups",
    "Profile",
    "Ratio",
    "Target",
    "best_multiple",
    "measure_multiples",
    "measured_ratio",
    "profile_model",
    "ratio_check",
    "refine",
    "refine_around",
]
