"""The coupling graph: which channels of a model must be removed together, found by tracing and proved on the model itself."""

from autoprune.graph._build import build_graph
from autoprune.graph._call import concrete
from autoprune.graph._execute import Executor, free_after, input_nodes, last_uses, output_nodes
from autoprune.graph._parts import Parts, Run, captured, parts_and_inputs, paths_of, view
from autoprune.graph._propagation import OUTPUT
from autoprune.graph._prove import prove
from autoprune.graph._proved import proved_graph, proved_part
from autoprune.graph._record import output_tensors
from autoprune.graph._walk import known_ops, register_op
from autoprune.groups import ChannelSlice, FoldedTensor, Group, IntArray, Layer, PruningGraph, Refusal

__all__ = [
    "OUTPUT",
    "ChannelSlice",
    "Executor",
    "FoldedTensor",
    "Group",
    "IntArray",
    "Layer",
    "Parts",
    "PruningGraph",
    "Refusal",
    "Run",
    "build_graph",
    "captured",
    "concrete",
    "free_after",
    "input_nodes",
    "known_ops",
    "last_uses",
    "output_nodes",
    "output_tensors",
    "parts_and_inputs",
    "paths_of",
    "prove",
    "proved_graph",
    "proved_part",
    "register_op",
    "view",
]
