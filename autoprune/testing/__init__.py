"""For authors of plug-ins: contract tests to subclass, a problem small enough to be solved, and an oracle for surgery."""

from __future__ import annotations

from autoprune.cost import counted_macs
from autoprune.testing._agent import AgentContract
from autoprune.testing._divergence import DivergenceContract
from autoprune.testing._oracle import SurgeryCheck, check_surgery, masked_outputs, randomised
from autoprune.testing._reward import RewardContract
from autoprune.testing._selection import SelectionContract
from autoprune.testing._toy import ToyProblem

__all__ = [
    "AgentContract",
    "DivergenceContract",
    "RewardContract",
    "SelectionContract",
    "SurgeryCheck",
    "ToyProblem",
    "check_surgery",
    "counted_macs",
    "masked_outputs",
    "randomised",
]
