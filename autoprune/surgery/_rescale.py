"""Weights that are normalised over their inputs: what is left of them gets back the size it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from autoprune.graph._computed import ComputedWeight
from autoprune.graph._types import PruningGraph


@torch.no_grad()
def undo_scaling(
    graph: PruningGraph, named: Mapping[str, Tensor], memo: Mapping[int, Any], kept: Mapping[int, Any]
) -> None:
    """Scale the vectors of weight-normalised layers, in place, so that their weights are parts of the dense ones.

    Args:
        graph: The coupling graph.
        named: The dense parameters and buffers.
        memo: Id of a dense tensor -> its copy; the narrowed ones are there.
        kept: Id of a narrowed tensor -> (dimension, indices kept) of each dimension that was cut.
    """
    for weight in {id(w): w for w in graph.computed.values() if w.scale is not None}.values():
        computed: ComputedWeight = weight
        source = named[computed.names[computed.source]]
        cuts = dict(kept.get(id(source), ()))
        if 1 not in cuts or computed.scale is None:
            continue
        dense = computed.evaluate({node: named[name] for node, name in computed.names.items()})
        for dim, index in cuts.items():
            dense = dense.index_select(dim, index.to(dense.device))
        values = {node: memo.get(id(named[name]), named[name]) for node, name in computed.names.items()}
        small = computed.evaluate(values)
        ratio = dense.flatten(1).norm(dim=1) / small.flatten(1).norm(dim=1).clamp_min(torch.finfo(small.dtype).tiny)
        vector = values[computed.scale]
        vector.mul_(ratio.reshape(vector.shape).to(vector.dtype))
