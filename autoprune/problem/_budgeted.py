"""What a search decides under a budget: decisions, levels, costs, projection; the second part of a `Problem`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from autoprune.budget import Budget
from autoprune.cost import MEASUREMENTS, MemoryCost
from autoprune.decisions import CHANNELS, Restrictions, channel_groups, standalone_decisions
from autoprune.errors import UsageError
from autoprune.latency import LatencyCost, PricedGroups, Ratio, Target
from autoprune.model_guard import unchanged
from autoprune.problem._limits import Decided, MakeCost, decidable, project_onto
from autoprune.problem._limits import decide as decide_within
from autoprune.problem._proof import proved
from autoprune.problem._stopwatch import Stopwatch
from autoprune.problem._traced import Traced


@dataclass(frozen=True, eq=False)
class Budgeted:
    """A traced network under a budget: which policies there are, what they cost, and how they are made to fit.

    Attributes:
        traced: The network.
        budget: The budget.
        decided: Decisions, levels, costs and projection.
        stopwatch: Predicts and measures latency; None where the budget does not limit it.
        notes: Sentences that the user should read, the network's first.
    """

    traced: Traced
    budget: Budget
    decided: Decided
    stopwatch: Stopwatch | None = None
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The dense network as a policy."""
        return tuple(group.size for group in self.decided.decisions)

    def at(self, budget: Budget) -> Budgeted:
        """Return the same under another budget of the same kinds; nothing is measured again.

        Raises:
            UsageError: if a kind of cost is limited that is not known here.
        """
        projector = project_onto(budget, self.decided.costs, self.decided.levels, self.sizes)
        return replace(self, budget=budget, decided=replace(self.decided, projector=projector))

    @unchanged()
    def timed(self, network: nn.Module) -> Ratio | None:
        """Return what a finished network takes on the target, timed against the dense one; None where latency does not count.

        Raises:
            AutopruneError: if the machine is too busy for it to be known.
        """
        return None if self.stopwatch is None else self.stopwatch.measure(network)


@unchanged()
def under_budget(
    traced: Traced,
    budget: Budget | float | str | None = 0.5,
    *,
    include_residual: bool = False,
    min_keep: float = 0.1,
    round_to: int = 1,
    target: Target | None = None,
    profile: Path | None = None,
    decide: Sequence[str] = (CHANNELS,),
    restrictions: Restrictions | None = None,
    say: Callable[[str], None] | None = None,
    measured: Callable[[int, int], None] | None = None,
) -> Budgeted:
    """Find what is decided; where latency counts, profile, and then once more around the budget.

    Args:
        traced: The network.
        budget: Share of the dense MACs, a `Budget`, or what is read as one ("macs=0.5,size=4MB"); None for no budget.
        include_residual: Whether groups that cross a residual join are decided too. They also are if the budget cannot
            be met without; the notes then say so.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this; 0 for the smallest that is fast on the target.
        target: What will run the network; None for the device it is on.
        profile: Where measured times are kept and continued; None to keep them in memory. What is measured for costs of one's own
            is kept beside it.
        decide: Kinds of decisions (`autoprune.decisions`): "channels", registered names, or ``package.module:name``.
        restrictions: Modules whose channels all stay, and bounds on the share that stays of others; None for none.
        say: Told what is being measured.
        measured: Told how many networks of a profile are measured, of how many.

    Raises:
        UsageError: if nothing can be pruned or the budget cannot be met; says what can.
    """
    limits = as_budget(budget)
    target = target or Target(device=str(traced.device))
    stopwatch: Stopwatch | None = None
    if "latency" in limits.kinds:
        _check_latency(traced)
        stopwatch = Stopwatch(
            traced.model, traced.graph, traced.example, target, path=profile, say=say, measured=measured
        )
    beside, notes = proved(traced, standalone_decisions(decide, traced.model, traced.graph))
    notes = traced.notes + notes
    if round_to == 0:
        if stopwatch is None:
            raise UsageError("Channel counts are to be what is fast on the target, but the budget limits no latency.")
        chosen = decidable(traced.graph, include_residual=include_residual)
        round_to = stopwatch.multiple(chosen, min_keep=min_keep)
        notes += (f"On the target ({stopwatch.target}) multiples of {round_to} channels are fast.",)
    others: dict[str, MakeCost] = {"memory": lambda chosen, _: MemoryCost(traced.graph, chosen, batch=target.batch)}
    if stopwatch is not None:
        others["latency"] = stopwatch.cost

    def decided() -> Decided:
        return decide_within(
            traced.model,
            traced.graph,
            limits,
            include_residual=include_residual,
            min_keep=min_keep,
            round_to=round_to,
            beside=beside,
            channels=CHANNELS in decide,
            others=others,
            measurements=None if profile is None else profile.with_name(MEASUREMENTS),
            restrictions=restrictions,
        )

    def look() -> PricedGroups:
        now = decided()
        return channel_groups(now.decisions), cast(LatencyCost, now.costs["latency"]), now.projector

    found = decided()
    if stopwatch is not None:
        stopwatch.refine_around(look)
        found = decided()
    return Budgeted(traced, limits, found, stopwatch, notes + found.notes)


def _check_latency(traced: Traced) -> None:
    """Refuse what latency is not predicted for."""
    advice = "give a budget of macs, params, size or memory"
    if traced.part:
        raise UsageError(
            f"The budget limits latency, which is that of a whole network, but only the part {', '.join(traced.part)} is pruned; "
            f"{advice}."
        )
    if not isinstance(traced.example, Tensor) or traced.run is not None:
        raise UsageError(
            f"The budget limits latency, which is measured of networks that are called with one tensor only, but this one is "
            f"called with inputs of {traced.inputs.text}; {advice}."
        )


def as_budget(budget: Budget | float | str | None) -> Budget:
    """Return what is given as a `Budget`; None limits nothing."""
    if budget is None:
        return Budget(1.0, "at-most")
    return budget if isinstance(budget, Budget) else Budget(budget)
