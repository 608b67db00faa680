"""Which channels of a coupling group stay, once it is known how many."""

from autoprune.select._base import NestedSelection, Selection, channel_gram, selections
from autoprune.select._inputs import Activations, Consumer, DenseNetwork, SelectionInputs, input_kinds
from autoprune.select._kinds import NormParameters, collect
from autoprune.select._lasso import Lasso
from autoprune.select._magnitude import Magnitude
from autoprune.select._obs import OptimalBrainSurgeon, elimination
from autoprune.select._thinet import ThiNet

__all__ = [
    "Activations",
    "Consumer",
    "DenseNetwork",
    "Lasso",
    "Magnitude",
    "NestedSelection",
    "NormParameters",
    "OptimalBrainSurgeon",
    "Selection",
    "SelectionInputs",
    "ThiNet",
    "channel_gram",
    "collect",
    "elimination",
    "input_kinds",
    "selections",
]
