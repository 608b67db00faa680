"""Plain data of the coupling graph: groups, layers, slices of parameters, arguments of calls."""

from autoprune.groups._calls import Argument, CallFinder, Path, RecordedCall, Site, locate, owner, recorded_calls
from autoprune.groups._levels import allowed_counts
from autoprune.groups._types import (
    CallArgument,
    ChannelSlice,
    Extent,
    FoldedTensor,
    Group,
    IntArray,
    Layer,
    ModuleSize,
    Product,
    PruningGraph,
    Refusal,
    Statistic,
    Table,
    ValueChannels,
)

__all__ = [
    "Argument",
    "CallArgument",
    "CallFinder",
    "ChannelSlice",
    "Extent",
    "FoldedTensor",
    "Group",
    "IntArray",
    "Layer",
    "ModuleSize",
    "Path",
    "Product",
    "PruningGraph",
    "RecordedCall",
    "Refusal",
    "Site",
    "Statistic",
    "Table",
    "ValueChannels",
    "allowed_counts",
    "locate",
    "owner",
    "recorded_calls",
]
