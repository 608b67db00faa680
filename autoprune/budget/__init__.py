"""What may be spent, and how much accuracy may be lost."""

from autoprune.budget._budget import UNITS, Budget, Limit, Mode, UserCost, amount, costs, noun
from autoprune.budget._drop import QUANTILE, AnyDrop, Drop, MeanDrop, drop_between, paired_error, read_drop

__all__ = [
    "QUANTILE",
    "UNITS",
    "AnyDrop",
    "Budget",
    "Drop",
    "Limit",
    "MeanDrop",
    "Mode",
    "UserCost",
    "amount",
    "costs",
    "drop_between",
    "noun",
    "paired_error",
    "read_drop",
]
