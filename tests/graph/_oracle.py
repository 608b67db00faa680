"""An oracle that knows nothing of proofs: zero the weights that read removed channels, in plain PyTorch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.graph import Group, IntArray, PruningGraph


def prunable(graph: PruningGraph) -> list[Group]:
    return [group for group in graph.groups if group.reason is None]


def random_kept(graph: PruningGraph, seed: int) -> dict[str, IntArray]:
    rng = np.random.default_rng(seed)
    return {
        group.name: np.sort(rng.permutation(group.size)[: rng.integers(1, group.size)]).astype(np.int64)
        for group in prunable(graph)
    }


@torch.no_grad()
def zeroed(model: nn.Module, graph: PruningGraph, kept: Mapping[str, IntArray]) -> nn.Module:
    """Return a dense copy whose layers do not read the channels that are not kept."""
    masked = copy.deepcopy(model)
    tensors = dict(masked.named_parameters())
    for layer in graph.layers:
        if not layer.reads_channels:
            continue
        reads = torch.ones(layer.in_channels)
        for channel, (index, unit) in enumerate(zip(layer.in_group, layer.in_unit, strict=True)):
            if index >= 0 and graph.groups[index].name in kept and unit not in kept[graph.groups[index].name]:
                reads[channel] = 0
        weight = tensors[layer.weight]
        length = weight.flatten(1).norm(dim=1)
        dim = 0 if layer.op == "conv_transpose" else 1
        view = [1] * weight.dim()
        view[dim] = -1
        weight.mul_(reads[: weight.shape[dim]].to(weight).view(view))
        if layer.weight.endswith("weight.original1"):  # weight norm: v, whose length must not change the weight
            scale = tensors[f"{layer.weight[:-1]}0"]
            scale.mul_((weight.flatten(1).norm(dim=1) / length).view(scale.shape))
    return masked


def leaves(output: Any) -> list[Tensor]:
    """Return the tensors of an output; a dataclass counts as the tuple of its fields."""
    if dataclasses.is_dataclass(output):
        output = [getattr(output, entry.name) for entry in dataclasses.fields(output)]
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def convs_between(graph: PruningGraph) -> list[bool]:
    """For every convolution that is not the network's output, whether all its output channels can go or are held by others.

    A channel counts as prunable if its group is.
    """
    found = []
    for layer in graph.layers:
        reasons = {graph.groups[index].reason for index in np.unique(layer.out_group) if index >= 0}
        is_output = any(reason and "network's output" in reason for reason in reasons)
        if layer.op != "linear" and not is_output:
            found.append(reasons == {None} and bool((layer.out_group >= 0).all()))
    return found
