"""What ``autoprune inspect`` shows: groups, layers and budgets of a network, as plain data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from autoprune.cost import CostModel, allowed_counts
from autoprune.graph import build_graph, prove
from autoprune.problem import decidable
from autoprune.text import aligned


def inspect_model(
    model: nn.Module,
    example_input: Tensor,
    *,
    include_residual: bool = False,
    min_keep: float = 0.1,
    round_to: int = 1,
) -> dict[str, Any]:
    """Trace a network, prove its groups and say what it consists of, as JSON-ready values.

    Args:
        model: The network.
        example_input: One batch of at least 2, shape (B, C, H, W).
        include_residual: Whether groups that cross a residual join are decided too.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this.

    Raises:
        AutopruneError: if the network cannot be traced.
    """
    graph = prove(model, build_graph(model, example_input), example_input)
    decisions = decidable(graph, include_residual=include_residual)
    cost = CostModel(graph, decisions)
    least = [allowed_counts(group.size, min_keep=min_keep, round_to=round_to)[0] for group in decisions]
    smallest = cost.macs(least)
    decided = {group.name for group in decisions}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters(remove_duplicate=False)}
    return {
        "macs": cost.dense_macs,
        "params": cost.dense_params,
        "smallest_macs": smallest,
        "smallest_budget": smallest / cost.dense_macs,
        "groups": [
            {
                "name": group.name,
                "channels": group.size,
                "kind": group.kind,
                "producers": list(group.producers),
                "consumers": list(group.consumers),
                "prunable": group.reason is None,
                "decided": group.name in decided,
                "reason": group.reason,
            }
            for group in graph.groups
        ],
        "refusals": [{"where": refusal.where, "reason": refusal.reason} for refusal in graph.refusals],
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "kernel": list(layer.kernel),
                "macs": layer.macs,
                "params": sizes.get(layer.weight, 0) + (sizes.get(layer.bias, 0) if layer.bias else 0),
            }
            for layer in graph.layers
        ],
    }


def inspection_text(found: Mapping[str, Any]) -> str:
    """Return the same to read."""
    layers = [
        [
            layer["name"],
            layer["op"],
            f"{layer['in_channels']} -> {layer['out_channels']}",
            "x".join(str(k) for k in layer["kernel"]),
            f"{layer['macs']:,}",
            f"{100 * layer['macs'] / max(1, found['macs']):.1f} %",
            f"{layer['params']:,}",
        ]
        for layer in found["layers"]
    ]
    groups = [
        [
            group["name"],
            str(group["channels"]),
            group["kind"],
            "decided" if group["decided"] else "prunable" if group["prunable"] else "whole",
            group["reason"] or ("" if group["decided"] else "crosses a residual join; add --include-residual"),
        ]
        for group in found["groups"]
    ]
    parts = [
        f"{found.get('model', 'network')}: {found['macs']:,} MACs, {found['params']:,} parameters",
        aligned(["layer", "op", "channels", "kernel", "MACs", "", "params"], layers, left=3),
        aligned(["coupling group", "channels", "kind", "", "why not"], groups, left=5),
    ]
    if found["refusals"]:
        refusals = [f"{refusal['where']}: {refusal['reason']}" for refusal in found["refusals"]]
        parts.append("Not understood, so left whole:\n" + "\n".join(refusals))
    decided = sum(group["decided"] for group in found["groups"])
    if decided:
        parts.append(
            f"{decided} groups are decided by a search; budgets from {_up(found['smallest_budget'])} to 1 of the MACs "
            "can be met."
        )
    else:
        parts.append("No group can be pruned, so only the budget 1 can be met.")
    return "\n\n".join(parts)


def _up(ratio: float) -> str:
    """Return a ratio with four digits, rounded up, so that it can be met."""
    return f"{-(-ratio * 10**4 // 1) / 10**4:.4f}"
