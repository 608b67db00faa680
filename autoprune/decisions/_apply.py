"""From units that stay to the small network: channels by surgery, then the other decisions one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from autoprune.decisions._decision import CHANNELS, Decision, standalone
from autoprune.decisions._find import standalone_decisions
from autoprune.errors import UsageError
from autoprune.groups import IntArray, PruningGraph
from autoprune.surgery import Policy, PolicyGroup, folded, load_pruned, load_state, prune_model


def applied(
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Decision],
    kept: Mapping[str, IntArray],
    *,
    tensors: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Return the small network in which only some units of each decision stay.

    Args:
        model: The dense network; not touched.
        graph: Its coupling graph.
        decisions: What is decided; those that are missing in ``kept`` stay whole.
        kept: Units that stay, by decision's name: of a group its channels.
        tensors: Values of parameters and buffers, with the small network's channels.
    """
    others = {decision.name: decision for decision in standalone(decisions)}
    channels = {name: units for name, units in kept.items() if name not in others}
    network = prune_model(model, graph, channels, tensors=tensors)
    for name, decision in others.items():
        level = len(kept[name]) if name in kept else decision.size
        if level < decision.size:
            network = decision.apply(network, level)
    return network


def entries_of(decisions: Sequence[Decision], kept: Mapping[str, IntArray]) -> tuple[PolicyGroup, ...]:
    """Return a policy's entries for what was decided; what is missing in ``kept`` is whole."""
    return Policy.groups_of(decisions, kept, {decision.name: decision.kind for decision in standalone(decisions)})


def network_of(
    model: nn.Module, graph: PruningGraph, policy: Policy, state: Mapping[str, Tensor] | None = None
) -> nn.Module:
    """Return the small network that a policy describes.

    Args:
        model: The dense network as its constructor makes it; not touched.
        graph: Its coupling graph.
        policy: What stays.
        state: The small network's state dict; None keeps the dense network's weights (slices only).

    Raises:
        UsageError: if policy, state and network do not belong together, or a kind of decision is not known here.
    """
    if kinds_of(policy) == (CHANNELS,):
        return prune_model(model, graph, policy.kept()) if state is None else load_pruned(model, graph, policy, state)
    model = folded(model, graph.folded)
    network = applied(model, graph, decisions_of(policy, model, graph), policy.kept())
    return network if state is None else load_state(network, state)


def kinds_of(policy: Policy) -> tuple[str, ...]:
    """Return the kinds of decisions of a policy, channels first."""
    return tuple(dict.fromkeys((CHANNELS, *(entry.kind for entry in policy.groups))))


def decisions_of(policy: Policy, model: nn.Module, graph: PruningGraph) -> tuple[Decision, ...]:
    """Return what a policy decided, in its order.

    Args:
        policy: The policy.
        model: The dense network.
        graph: Its coupling graph.

    Raises:
        UsageError: if the network does not have one of them, or a kind is not known here.
    """
    groups: dict[str, Decision] = {group.name: group for group in graph.groups}
    others: dict[str, Decision] = {one.name: one for one in standalone_decisions(kinds_of(policy), model, graph)}
    found = []
    for entry in policy.groups:
        decision = (groups if entry.kind == CHANNELS else others).get(entry.name)
        if decision is None or decision.size != entry.size:
            raise UsageError(
                f"The policy's decision '{entry.name}' ({entry.kind}, {entry.size}) does not exist in this model; give the model "
                "it was made for."
            )
        found.append(decision)
    return tuple(found)
