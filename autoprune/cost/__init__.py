"""What a policy costs, in closed form, and policies that meet a budget."""

from autoprune.budget import costs
from autoprune.cost._costs import Cost, OwnCost, check_cost, on_network, size_cost
from autoprune.cost._counted import counted_macs
from autoprune.cost._measured import MEASUREMENTS, MeasuredCost, measured, own_cost
from autoprune.cost._memory import MemoryCost
from autoprune.cost._model import CostModel
from autoprune.cost._project import Projector

__all__ = [
    "MEASUREMENTS",
    "Cost",
    "CostModel",
    "MeasuredCost",
    "MemoryCost",
    "OwnCost",
    "Projector",
    "check_cost",
    "costs",
    "counted_macs",
    "measured",
    "on_network",
    "own_cost",
    "size_cost",
]
