"""From a budget to what a search decides: decisions, their levels, what policies cost, and the projection."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from autoprune.budget import Budget, Limit, amount, noun
from autoprune.cost import Cost, CostModel, MeasuredCost, OwnCost, Projector, check_cost, own_cost, size_cost
from autoprune.decisions import Decision, Restricted, Restrictions, StandaloneDecision
from autoprune.errors import UsageError
from autoprune.graph import OUTPUT, Group, PruningGraph

MakeCost = Callable[[tuple[Group, ...], tuple[tuple[int, ...], ...]], Cost]
"""Makes a cost for the groups that are decided and their allowed counts."""


@dataclass(frozen=True, eq=False)
class Decided:
    """What a search decides, and within which limits.

    Attributes:
        decisions: What a policy decides, in execution order.
        levels: For each the levels allowed.
        cost: Closed-form MACs and parameters.
        costs: What the budget limits, by kind.
        projector: Makes policies meet the budget.
        notes: What the user should know.
    """

    decisions: tuple[Decision, ...]
    levels: tuple[tuple[int, ...], ...]
    cost: CostModel
    costs: Mapping[str, Cost]
    projector: Projector
    notes: tuple[str, ...] = ()


def decide(
    model: nn.Module,
    graph: PruningGraph,
    budget: Budget,
    *,
    include_residual: bool,
    min_keep: float,
    round_to: int,
    beside: Sequence[StandaloneDecision] = (),
    channels: bool = True,
    others: Mapping[str, MakeCost] | None = None,
    measurements: Path | None = None,
    restrictions: Restrictions | None = None,
) -> Decided:
    """Return what a search decides; groups across residual joins too if the budget cannot be met without.

    Args:
        model: The dense network.
        graph: Its proved coupling graph.
        budget: The budget.
        include_residual: Whether groups that cross a residual join are decided.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this.
        beside: Decisions of other kinds, proved.
        channels: Whether the channels of coupling groups are decided at all.
        others: Makes the costs of further kinds ("latency", "memory"), which know channels only.
        measurements: File where what was measured for costs of one's own is kept; None for none.
        restrictions: What the user puts off limits; None for nothing.

    Raises:
        UsageError: if nothing can be pruned or the budget cannot be met; says what can.
    """
    _only_channels(budget, beside, others or {})
    asked = restrictions or Restrictions()

    def attempt(residual: bool, within: Restricted) -> _Attempt:
        groups = decidable(graph, include_residual=residual, restricted=within) if channels else ()
        decisions = in_order(groups, [one for one in beside if not within.on(one).whole], graph)
        levels = tuple(within.levels(one, min_keep=min_keep, round_to=round_to) for one in decisions)
        cost = CostModel(graph, decisions)
        costs = {
            kind: others[kind](groups, levels)
            if others is not None and kind in others
            else _cost(kind, model, graph, decisions, levels, cost, measurements)
            for kind in budget.kinds
        }
        return _Attempt(decisions, levels, cost, costs, project_onto(budget, costs, levels, cost.sizes))

    restricted = asked.within(model, graph)
    attempts = (True,) if include_residual or not channels else (False, True)
    for residual in attempts:
        found = attempt(residual, restricted)
        if found.met:
            break
    else:
        if not found.decisions:
            raise UsageError(
                "Nothing in this network can be pruned: "
                + "; ".join(f"{group.name}: {_why_whole(group, restricted)}" for group in graph.groups[:3])
                + ". See autoprune inspect for all of it."
            )
        closed = set(budget.kinds) <= {"macs", "params", "size"}
        rest = [asked.without(number).within(model, graph) for number in range(len(asked.words) if closed else 0)]
        blamed = [words for words, one in zip(asked.words, rest, strict=closed) if attempt(True, one).met]
        raise UsageError(_impossible(budget, found, min_keep, blamed or asked.words))
    restricted.check_met(found.decisions, graph)
    loose = [limit.kind for limit in budget.limits if limit.unit == "ratio" and limit.value == 1.0]
    for kind, cost in found.costs.items():
        if kind not in loose or kind == budget.minimize:
            check_cost(kind, cost, found.projector.smallest, found.cost.sizes)
    notes: tuple[str, ...] = ()
    if residual and not include_residual and channels:
        notes = (
            f"The budget {budget} cannot be met by inner channels alone, "
            "so groups that cross a residual join are pruned too.",
        )
    notes += _restricted_notes(graph, restricted)
    notes += tuple(cost.note for cost in found.costs.values() if isinstance(cost, MeasuredCost))
    return Decided(found.decisions, found.levels, found.cost, found.costs, found.projector, notes)


class _Attempt(NamedTuple):
    """What is decided with or without groups across residual joins."""

    decisions: tuple[Decision, ...]
    levels: tuple[tuple[int, ...], ...]
    cost: CostModel
    costs: Mapping[str, Cost]
    projector: Projector

    @property
    def met(self) -> bool:
        """Whether the budget can be met."""
        return bool(self.decisions) and self.projector.fits(self.projector.smallest)


def project_onto(
    budget: Budget, costs: Mapping[str, Cost], levels: Sequence[tuple[int, ...]], sizes: Sequence[int]
) -> Projector:
    """Return what makes policies meet a budget.

    Args:
        budget: The budget.
        costs: What policies cost, by kind.
        levels: For each decision the allowed counts, ascending.
        sizes: Units of each decision: the dense network as a policy.

    Raises:
        UsageError: if the budget limits a kind that is not among the costs.
    """
    bounds = []
    for limit in budget.limits:
        if limit.kind not in costs:
            raise UsageError(
                f"The budget limits {noun(limit.kind)}, which this problem does not know: {', '.join(costs)}."
            )
        cost = costs[limit.kind]
        bounds.append((cost, _most(limit, cost, sizes)))
    bounds.sort(
        key=lambda bound: isinstance(bound[0], OwnCost)
    )  # what takes longest is asked last, and only of what is left
    return Projector(bounds, levels, budget.mode, rising="latency" not in costs, sizes=sizes)


def whole_groups(graph: PruningGraph) -> tuple[str, ...]:
    """Return sentences on what a search must leave whole, and on what the graph takes for granted."""
    notes = list(graph.notes)
    whole = [group for group in graph.groups if group.reason is not None and group.reason != OUTPUT]
    if whole:
        named = "; ".join(f"{group.name}: {group.reason}" for group in whole[:2])
        rest = f"; and {len(whole) - 2} more, see autoprune inspect" if len(whole) > 2 else ""
        notes.append(f"Coupling groups that stay whole, {len(whole)} of {len(graph.groups)}: {named}{rest}.")
    return tuple(notes)


def decidable(
    graph: PruningGraph, *, include_residual: bool, restricted: Restricted | None = None
) -> tuple[Group, ...]:
    """Return the groups that a policy may decide, in execution order, without those that the user leaves whole."""
    return tuple(
        group
        for group in graph.groups
        if group.reason is None
        and (include_residual or group.kind == "inner")
        and not (restricted is not None and restricted.on(group).whole)
    )


def _why_whole(group: Group, restricted: Restricted) -> str:
    return group.reason or restricted.on(group).words or "it crosses a residual join"


def _restricted_notes(graph: PruningGraph, restricted: Restricted) -> tuple[str, ...]:
    """Return a sentence on what the user leaves whole or bounds; none where nothing was asked."""
    if not restricted.restrictions:
        return ()
    prunable = [restricted.on(group) for group in graph.groups if group.reason is None]
    whole = sum(one.whole for one in prunable)
    bounded = sum(bool(one.by) and not one.whole for one in prunable)
    asked = ", ".join(restricted.restrictions.words)
    return (f"Coupling groups left whole by {asked}: {whole}; bounded: {bounded}.",)


def in_order(
    groups: Sequence[Group], beside: Sequence[StandaloneDecision], graph: PruningGraph
) -> tuple[Decision, ...]:
    """Return all decisions, in execution order of the first layer that each makes smaller."""
    if not beside:
        return tuple(groups)
    place = graph.places
    both: list[Decision] = [*beside, *groups]  # a branch comes before the channels in it
    return tuple(sorted(both, key=lambda one: min((place[name] for name in one.producers), default=len(place))))


def _only_channels(budget: Budget, beside: Sequence[Decision], others: Mapping[str, MakeCost]) -> None:
    unknown = [kind for kind in budget.kinds if kind in others]
    if beside and unknown:
        raise UsageError(
            f"What {noun(unknown[0])} '{beside[0].name}' costs is not known: it is predicted for numbers of channels only; "
            "leave other decisions out, or give a budget of macs, params or size."
        )


def _cost(
    kind: str,
    model: nn.Module,
    graph: PruningGraph,
    decisions: tuple[Decision, ...],
    levels: Sequence[tuple[int, ...]],
    cost: CostModel,
    measurements: Path | None,
) -> Cost:
    if kind == "macs":
        return cost.macs_form
    if kind == "params":
        return cost.params_form
    if kind == "size":
        return size_cost(cost, model.state_dict())
    return own_cost(kind, model, graph, decisions, levels, cost, path=measurements)


def _most(limit: Limit, cost: Cost, sizes: Sequence[int]) -> float:
    """Return the limit in the cost's unit; whole where the cost is."""
    dense = cost(sizes)
    most = limit.of(dense)
    return math.floor(most) if isinstance(dense, int) else most


def _impossible(budget: Budget, found: _Attempt, min_keep: float, blamed: Sequence[str]) -> str:
    """Return what is to be said of a budget that even the smallest network exceeds.

    Args:
        budget: The budget.
        found: What is decided.
        min_keep: The least share that stays.
        blamed: The user's restrictions without which it could be met, as on the command line; all of them where that is not
            known.
    """
    said = []
    for limit in budget.limits:
        cost = found.costs[limit.kind]
        least, dense = cost(found.projector.smallest), cost(found.cost.sizes)
        if least <= limit.of(dense):
            continue
        share = math.ceil(least / dense * 1e4) / 1e4
        what = f"{share:.4f} of the {noun(limit.kind)}"
        said.append(what if limit.unit == "ratio" else f"{amount(limit.kind, least)} ({what})")
    within, loosen = (f" and {', '.join(blamed)}", f", or loosen {', '.join(blamed)}") if blamed else ("", "")
    return (
        f"The budget {budget} cannot be met: with at least {min_keep:g} of every group's channels kept{within} "
        f"the smallest network has {' and '.join(said)}; ask for at least that, or lower --min-keep{loosen}."
    )
