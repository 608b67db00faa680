"""Which multiples of channels a target is fast with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from autoprune.cost import CostModel, Projector
from autoprune.graph import Group, PruningGraph
from autoprune.latency._measure import resolved_times
from autoprune.latency._profile import Multiple, Profile
from autoprune.latency._segments import Segments
from autoprune.latency._sessions import VariantSession, clock_of
from autoprune.latency._target import Target
from autoprune.timing import measuring

MULTIPLES = (1, 2, 4, 8, 16)
TOLERANCE = 0.02


def measure_multiples(
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Group],
    example: Tensor,
    target: Target,
    *,
    share: float = 0.5,
    min_keep: float = 0.1,
    multiples: Sequence[int] = MULTIPLES,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> tuple[Multiple, ...]:
    """Time networks with the same share of MACs whose channel counts are multiples of different numbers, in turn.

    Args:
        model: The dense network.
        graph: Its coupling graph.
        decisions: The groups that a policy decides.
        example: Images (B, C, H, W).
        target: The target.
        share: Share of the dense network's MACs. Groups keep different shares of their channels, the same for every multiple: a
            uniform one hits multiples of 8 by chance where channels come in powers of 2.
        min_keep: The least share of a group's channels that stays.
        multiples: The numbers; those with which the share cannot be met are left out.
        seed: Of these shares.
        say: Told what is being done.

    Raises:
        AutopruneError: if the machine is too busy for the times to be known.
    """
    tell = say or (lambda text: None)
    target = target.resolved
    cost = CostModel(graph, decisions)
    asked = np.random.default_rng(seed).permutation(np.linspace(0.4, 1.0, len(decisions))).tolist()
    counts: dict[int, tuple[int, ...]] = {}
    for multiple in multiples:
        levels = [group.levels(min_keep=min_keep, round_to=multiple) for group in decisions]
        projector = Projector([(cost.macs_form, share * cost.dense_macs)], levels)
        if projector.fits(projector.smallest):
            counts[multiple] = projector.project(asked)
    tell(f"Timing multiples of {', '.join(map(str, counts))} channels")
    with (
        measuring(target.threads, lambda text: None),
        VariantSession(model, graph, decisions, example, target) as session,
    ):
        functions = {"dense": session.ready(cost.sizes).whole}
        functions |= {str(multiple): session.ready(kept).whole for multiple, kept in counts.items()}
        measured = resolved_times(functions, target, clock=clock_of(target), second_s=60.0)
    found = []
    for multiple, kept in counts.items():
        ratio = measured.timings[str(multiple)].ratio(measured.timings["dense"])
        macs = cost.macs(kept) / cost.dense_macs
        slope = (1.0 - ratio) / (1.0 - macs) if macs < 1.0 else 0.0
        found.append(Multiple(multiple, macs, ratio, ratio + (share - macs) * slope))
    return tuple(found)


def best_multiple(
    profile: Profile,
    model: nn.Module,
    graph: PruningGraph,
    decisions: Sequence[Group],
    example: Tensor,
    *,
    share: float = 0.5,
    min_keep: float = 0.1,
    say: Callable[[str], None] | None = None,
) -> int:
    """Return the smallest multiple whose time at equal MACs is within 2 % of the least; measured if the profile has it not.

    Args:
        profile: The profile; what is measured is added to it.
        model: The dense network.
        graph: Its coupling graph.
        decisions: The groups that a policy decides.
        example: Images (B, C, H, W).
        share: See `measure_multiples`, as for the rest.
        min_keep: See there.
        say: See there.

    Raises:
        AutopruneError: if the machine is too busy for the times to be known.
    """
    network = Segments(graph, decisions).network
    if network not in profile.multiples:
        profile.check(profile.target)
        measured = measure_multiples(
            model, graph, decisions, example, profile.target, share=share, min_keep=min_keep, say=say
        )
        profile.add_multiples(network, measured)
    return smallest_fast(profile.multiples[network])


def smallest_fast(measured: Sequence[Multiple]) -> int:
    """Return the smallest multiple whose time at equal MACs is within 2 % of the least; 1 if nothing was measured."""
    least = min((entry.at_equal_macs for entry in measured), default=0.0)
    return min((x.multiple for x in measured if x.at_equal_macs <= (1.0 + TOLERANCE) * least), default=1)
