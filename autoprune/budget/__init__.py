"""What may be spent, and how much accuracy may be lost."""

from autoprune.budget._budget import UNITS, Budget, Limit, Mode, UserCost, amount, costs, noun
from autoprune.budget._drop import QUANTILE, Drop, paired_error

__all__ = [
    "QUANTILE",
    "UNITS",
    "Budget",
    "Drop",
    "Limit",
    "Mode",
    "UserCost",
    "amount",
    "costs",
    "noun",
    "paired_error",
]
