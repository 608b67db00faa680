"""Refining a profile around a budget until it predicts what policies there take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from autoprune.cost import Projector
from autoprune.graph import Group, PruningGraph
from autoprune.latency._cost import LatencyCost
from autoprune.latency._design import lines
from autoprune.latency._measure import refine
from autoprune.latency._profile import Profile

PricedGroups = tuple[Sequence[Group], LatencyCost, Projector]
"""The groups that a policy decides, what is predicted now, and what makes policies meet the budget by that."""
CLOSE = 0.01
"""How far a prediction may be from the measured ratio."""
MOST = 4
"""Rounds of refining."""


def refine_around(
    profile: Profile,
    model: nn.Module,
    graph: PruningGraph,
    example: Tensor,
    price: Callable[[], PricedGroups],
    *,
    clock: Callable[[], float] | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Measure policies at the budget, predict anew, and so on until they take what was predicted.

    Args:
        profile: The profile, which the policies are added to.
        model: The dense network.
        graph: Its coupling graph.
        example: Images (B, C, H, W).
        price: Returns groups, predicted cost and projection by what the profile holds when it is called.
        clock: Tells seconds; None for the one that suits the target.
        say: Told what is being done.

    Raises:
        UsageError: if the profile is for another machine.
        AutopruneError: as in `profile_model`.
    """
    for _ in range(MOST):
        decisions, cost, projector = price()
        policies = [projector.project(shares) for shares in lines(len(decisions))]
        predicted = [cost(counts) / cost.dense for counts in policies]
        measured = refine(profile, model, graph, decisions, policies, example, clock=clock, say=say)
        if max(abs(a - b) for a, b in zip(predicted, measured, strict=True)) <= CLOSE:
            return
