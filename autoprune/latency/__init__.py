"""Measured latency of the target that will run the network, as a cost that a budget can limit."""

from autoprune.latency._check import Ratio, measured_ratio
from autoprune.latency._cost import LatencyCost
from autoprune.latency._measure import profile_model, refine
from autoprune.latency._profile import Profile
from autoprune.latency._target import Target

__all__ = ["LatencyCost", "Profile", "Ratio", "Target", "measured_ratio", "profile_model", "refine"]
