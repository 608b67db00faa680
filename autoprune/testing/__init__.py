"""For authors of plug-ins: contract tests to subclass, and a problem small enough to be solved."""

from __future__ import annotations

from autoprune.testing._agent import AgentContract
from autoprune.testing._reward import RewardContract
from autoprune.testing._toy import ToyProblem

__all__ = ["AgentContract", "RewardContract", "ToyProblem"]
