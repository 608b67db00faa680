"""What ``autoprune inspect`` shows: groups, layers and budgets of a network, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

from autoprune.cost import Cost, CostModel, MemoryCost, size_cost
from autoprune.decisions import Bounds, Ignore, Restricted, restrictions_of
from autoprune.errors import AutopruneError
from autoprune.graph import Group, IntArray, PruningGraph, proved_graph
from autoprune.problem import decidable
from autoprune.surgery import folded


def inspect_model(
    model: nn.Module,
    example_input: Any,
    *,
    include_residual: bool = False,
    min_keep: float = 0.1,
    round_to: int = 1,
    part: str | Sequence[str] = (),
    ignore: Ignore | None = None,
    bounds: Bounds | None = None,
) -> dict[str, Any]:
    """Trace a network, prove its groups and say what it consists of, as JSON-ready values.

    Args:
        model: The network.
        example_input: One batch of at least 2, shape (B, C, H, W).
        include_residual: Whether groups that cross a residual join are decided too.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this.
        part: Paths of the parts that alone are looked at, on what they get while the network runs; none for all of it.
        ignore: Modules whose channels all stay, as for a search.
        bounds: The share of the channels that stays of others, likewise.

    Returns:
        ``macs``, ``params``, ``smallest_macs``, ``smallest_budget``; ``budgets``: by kind the dense network's and the smallest
        that can be met, ``dense`` and ``least``; ``notes``: what to know of the network as a whole, sentences; ``groups``,
        ``refusals`` and ``layers`` as lists of dictionaries in execution order. A group's letters are what people call it by; a
        layer's ``in_groups`` and ``out_groups`` are names of groups (none for the image's channels). A group's ``restricted_by``
        says what was given to ignore or bound it, else None, and ``least_share`` and ``most_share`` what that leaves.

    Raises:
        UsageError: if what is ignored or bounded means nothing in the network, or contradicts itself.
        AutopruneError: if the network cannot be traced.
    """
    restrictions = restrictions_of(model, ignore, bounds)
    graph = proved_graph(model, example_input, part=part)
    model = folded(model, graph.folded)
    restricted = restrictions.within(model, graph)
    decisions = decidable(graph, include_residual=include_residual, restricted=restricted)
    cost = CostModel(graph, decisions)
    least = [restricted.levels(group, min_keep=min_keep, round_to=round_to)[0] for group in decisions]
    smallest = cost.macs(least)
    whole = [group.size for group in decisions]
    costs: dict[str, Cost] = {"macs": cost.macs_form, "params": cost.params_form}
    costs["size"] = size_cost(cost, model.state_dict())
    with suppress(AutopruneError):  # where memory has no closed form, budgets of it are refused
        costs["memory"] = MemoryCost(graph, decisions)
    decided = {group.name for group in decisions}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
    return {
        "macs": cost.dense_macs,
        "params": cost.dense_params,
        "smallest_macs": smallest,
        "smallest_budget": smallest / cost.dense_macs if cost.dense_macs else 1.0,
        "budgets": {kind: {"dense": found(whole), "least": found(least)} for kind, found in costs.items()},
        "groups": [{**_group(group, restricted), "decided": group.name in decided} for group in graph.groups],
        "notes": list(graph.notes),
        "refusals": [{"where": refusal.where, "reason": refusal.reason} for refusal in graph.refusals],
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "kernel": list(layer.kernel),
                "stride": list(layer.stride),
                "conv_groups": layer.groups,
                "in_groups": _names(graph, layer.in_group),
                "out_groups": _names(graph, layer.out_group),
                "macs": layer.macs,
                "params": sizes.get(layer.weight, 0) + (sizes.get(layer.bias, 0) if layer.bias else 0),
            }
            for layer in graph.layers
        ],
    }


def _group(group: Group, restricted: Restricted) -> dict[str, Any]:
    found = restricted.on(group)
    low, high = (1.0, 1.0) if found.whole else (found.low, found.high)
    return {
        "name": group.name,
        "letter": letters(group.index),
        "channels": group.size,
        "kind": group.kind,
        "producers": list(group.producers),
        "consumers": list(group.consumers),
        "prunable": group.reason is None,
        "reason": group.reason,
        "restricted_by": found.words or None,
        "least_share": low,
        "most_share": high,
    }


def letters(index: int) -> str:
    """Return a group's letters, as a spreadsheet's columns: A, B, ..., Z, AA, AB, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def _names(graph: PruningGraph, indices: IntArray) -> list[str]:
    """Return the names of the groups that occur, in the order of the graph."""
    return [graph.groups[index].name for index in np.unique(indices).tolist() if index >= 0]
