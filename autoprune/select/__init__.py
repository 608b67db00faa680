"""Which channels of a coupling group stay, once it is known how many."""

from autoprune.select._base import Consumer, NestedSelection, Selection, SelectionInputs, channel_gram, selections
from autoprune.select._lasso import Lasso
from autoprune.select._magnitude import Magnitude
from autoprune.select._obs import OptimalBrainSurgeon, elimination
from autoprune.select._thinet import ThiNet

__all__ = [
    "Consumer",
    "Lasso",
    "Magnitude",
    "NestedSelection",
    "OptimalBrainSurgeon",
    "Selection",
    "SelectionInputs",
    "ThiNet",
    "channel_gram",
    "elimination",
    "selections",
]
