"""Kinds of decisions beside channels: who finds them in a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import nn

from autoprune.decisions._decision import CHANNELS, StandaloneDecision
from autoprune.errors import AutopruneError, UsageError
from autoprune.groups import Group, PruningGraph
from autoprune.registry import Registry, nearest

Finder = Callable[[nn.Module, PruningGraph], Sequence[StandaloneDecision]]
"""Finds the decisions of one kind in a network, given its coupling graph. The network is not to be changed."""

finders: Registry[Finder] = Registry("kind of decision", "autoprune.decisions")


def standalone_decisions(kinds: Sequence[str], model: nn.Module, graph: PruningGraph) -> tuple[StandaloneDecision, ...]:
    """Return the decisions of some kinds in a network, in execution order.

    Args:
        kinds: Registered names, or ``package.module:name``; "channels" is passed over, those are the graph's groups.
        model: The dense network.
        graph: Its coupling graph.

    Raises:
        UsageError: for an unknown kind, or a finder that returns what is no decision of that kind, or has a name twice.
    """
    place = graph.places
    taken = {group.name for group in graph.groups}
    found: list[StandaloneDecision] = []
    for kind in kinds:
        if kind == CHANNELS:
            continue
        for decision in _found(kind, model, graph):
            _check(decision, kind, taken)
            taken.add(decision.name)
            unknown = sorted({*decision.layers, *decision.producers, *decision.consumers} - set(place))
            if unknown:
                raise UsageError(
                    f"The decision '{decision.name}' of kind '{kind}' names the layer '{unknown[0]}', which the network's graph "
                    f"does not have.{nearest(unknown[0], list(place))}"
                )
            found.append(decision)
    return tuple(sorted(found, key=lambda one: min((place[name] for name in one.producers), default=len(place))))


def find(kind: str) -> Finder:
    """Return who finds a kind of decision.

    Raises:
        UsageError: for an unknown kind.
    """
    if ":" not in kind and kind not in finders.names():
        known = sorted({CHANNELS, *finders.names()})
        raise UsageError(
            f"Unknown kind of decision '{kind}'.{nearest(kind, known)} Known: {', '.join(known)}; import the module that "
            "registers it, or give package.module:name."
        )
    finder = cast(object, finders.get(kind))
    if not callable(finder):
        raise UsageError(f"The kind of decision '{kind}' is not callable; give a function of (model, graph).")
    return cast(Finder, finder)


def _found(kind: str, model: nn.Module, graph: PruningGraph) -> list[StandaloneDecision]:
    """Return what a finder returns; what it raises is the user's own (UsageError)."""
    finder = find(kind)
    try:
        return list(finder(model, graph))
    except AutopruneError:
        raise
    except Exception as error:
        raise UsageError(
            f"The kind of decision '{kind}' raised {type(error).__name__}: {error}; it must be a function of (model, graph) that "
            "returns decisions."
        ) from error


def _check(decision: object, kind: str, taken: set[str]) -> None:
    if isinstance(decision, Group) or not isinstance(decision, StandaloneDecision):
        raise UsageError(
            f"The kind of decision '{kind}' returned a {type(decision).__name__}, which is no "
            "autoprune.decisions.StandaloneDecision."
        )
    if decision.kind != kind:
        raise UsageError(
            f"The decision '{decision.name}' says that it is of kind '{decision.kind}', but was found as '{kind}'; "
            "policy files must lead back to it."
        )
    if decision.name in taken:
        raise UsageError(
            f"Two decisions are called '{decision.name}'; names must be unique, coupling groups' included."
        )
