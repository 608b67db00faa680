"""The latency of a search's networks: profiled before it, predicted during it, measured at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn

from autoprune.budget import Budget
from autoprune.graph import Group, PruningGraph
from autoprune.latency import (
    LatencyCost,
    PricedGroups,
    Profile,
    Ratio,
    Target,
    best_multiple,
    measured_ratio,
    profile_model,
    refine_around,
)

Levels = Sequence[tuple[int, ...]]


class Stopwatch:
    """Profiles a network on a target, predicts what its policies take, and measures what they took.

    Args:
        model: The dense network.
        graph: Its proved coupling graph.
        example: Images (B, C, H, W).
        target: What will run the network.
        path: Where the profile is kept, so that it is continued and never measured twice; None to keep it in memory.
        say: Told what is being done.
        measured: Told how many networks are measured, of how many.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: PruningGraph,
        example: Tensor,
        target: Target,
        *,
        path: Path | None = None,
        say: Callable[[str], None] | None = None,
        measured: Callable[[int, int], None] | None = None,
    ) -> None:
        self.target = target
        self._model, self._graph, self._example = model, graph, example
        self._path, self._say, self._measured = path, say, measured
        self._profile: Profile | None = None
        self._dense_s: float | None = None

    def multiple(self, decisions: Sequence[Group], *, min_keep: float) -> int:
        """Return the smallest multiple of channels that is fast on the target; measured unless the profile knows it.

        Raises:
            UsageError: if the profile is damaged or for another target or machine.
            AutopruneError: if the machine is too busy for times to be known.
        """
        profile = self._open()
        return best_multiple(
            profile, self._model, self._graph, decisions, self._example, min_keep=min_keep, say=self._say
        )

    def _open(self) -> Profile:
        if self._profile is None:
            self._profile = Profile.open(self.target, None if self._path is None else str(self._path))
        return self._profile

    def cost(self, decisions: Sequence[Group], levels: Levels) -> LatencyCost:
        """Return the predicted seconds of one batch, profiling what is not profiled yet.

        Raises:
            UsageError: if the profile is damaged or for another target or machine.
            AutopruneError: if the machine is too busy for times to be known.
        """
        if self._profile is None or self._path is not None:
            self._profile = profile_model(
                self._model,
                self._graph,
                decisions,
                levels,
                self._example,
                self.target,
                path=None if self._path is None else str(self._path),
                say=self._say,
                progress=self._measured,
            )
        cost = LatencyCost(self._profile, self._graph, decisions)
        self._dense_s = cost.dense
        return cost

    def refine_around(self, look: Callable[[], PricedGroups]) -> None:
        """Measure policies at the budget, until they take what was predicted (see `autoprune.latency.refine_around`)."""
        assert self._profile is not None
        refine_around(self._profile, self._model, self._graph, self._example, look, say=self._say)

    def measure(self, network: nn.Module) -> Ratio:
        """Time a pruned network against the dense one.

        Raises:
            AutopruneError: if the machine is too busy for the ratio to be known.
        """
        return measured_ratio(self._model, network, self.target, self._example, dense_s=self._dense_s)


def excess(budget: Budget, measured: Ratio) -> float:
    """Return a measured time as a share of the budget of latency; 0 if there is none."""
    limit = budget.limit("latency")
    if limit is None:
        return 0.0
    return (measured.ratio if limit.unit == "ratio" else measured.seconds) / limit.value


def met(budget: Budget, measured: Ratio) -> bool:
    """Whether a measured time is within the budget of latency, as far as it is known."""
    return excess(budget, measured) * (1.0 - measured.known) <= 1.0


def measured_values(measured: Ratio) -> dict[str, float]:
    """Return a measurement as JSON-ready values."""
    return {key: float(value) for key, value in asdict(measured).items()}
