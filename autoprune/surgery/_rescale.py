"""Weights that are normalised over their inputs: what is left of them gets back the size it had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from autoprune.groups import PruningGraph


def rescaled(
    graph: PruningGraph, named: Mapping[str, Tensor], memo: Mapping[int, Any], kept: Mapping[int, Any]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the vectors that make what is left of weight-normalised layers a part of the dense weights, with their new values.

    Args:
        graph: The coupling graph.
        named: The dense parameters and buffers.
        memo: Id of a dense tensor -> its copy; the narrowed ones are there.
        kept: Id of a narrowed tensor -> (dimension, indices kept) of each dimension that was cut.
    """
    for computed in graph.computed.values():
        cuts = dict(kept.get(id(named[computed.names[computed.source]]), ()))
        if computed.scale is None or 1 not in cuts:
            continue
        with torch.no_grad():
            dense = computed.evaluate({node: named[name] for node, name in computed.names.items()})
            for dim, index in cuts.items():
                dense = dense.index_select(dim, index.to(dense.device))
            values = {node: memo.get(id(named[name]), named[name]) for node, name in computed.names.items()}
            small = computed.evaluate(values)
            least = torch.finfo(small.dtype).tiny
            ratio = dense.flatten(1).norm(dim=1) / small.flatten(1).norm(dim=1).clamp_min(least)
            vector = values[computed.scale].detach()
            yield named[computed.names[computed.scale]], vector * ratio.reshape(vector.shape).to(vector.dtype)
