"""What a policy costs, in closed form, and policies that meet a budget."""

from autoprune.cost._budget import parse_budget
from autoprune.cost._counted import counted_macs
from autoprune.cost._levels import allowed_counts
from autoprune.cost._model import CostModel
from autoprune.cost._project import Projector

__all__ = ["CostModel", "Projector", "allowed_counts", "counted_macs", "parse_budget"]
