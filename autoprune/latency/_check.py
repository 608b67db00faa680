"""The final check: a pruned network timed whole in turn with the dense one."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from autoprune.latency._bench import Stand
from autoprune.latency._measure import resolved_times
from autoprune.latency._target import Target
from autoprune.timing import measuring


@dataclass(frozen=True)
class Ratio:
    """A measured ratio of times.

    Attributes:
        ratio: The pruned network's time divided by the dense one's in the same round, median over the rounds.
        known: How well it is known, as a share of itself.
        seconds: Median seconds of one batch of the pruned network.
        dense_s: The same of the dense network.
        rounds: Number of rounds.
    """

    ratio: float
    known: float
    seconds: float
    dense_s: float
    rounds: int


def measured_ratio(
    model: nn.Module,
    pruned: nn.Module,
    target: Target,
    example: Tensor,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time a pruned network against the dense one on a target.

    Args:
        model: The dense network; it is not changed.
        pruned: The pruned one; likewise.
        target: The target.
        example: Images (B, C, H, W).
        clock: Tells seconds.

    Raises:
        UsageError: if the device is not there.
        AutopruneError: if a network does not run on the target, or the machine is too busy for the ratio to be known.
    """
    target = target.resolved
    with measuring(target.threads, lambda text: None), Stand(example, target) as stand:
        functions = {name: stand.whole(copy.deepcopy(net)) for name, net in (("dense", model), ("pruned", pruned))}
        measured = resolved_times(functions, target, clock=clock, try_s=10.0, patience_s=60.0)
    base, own = measured.timings["dense"], measured.timings["pruned"]
    return Ratio(own.ratio(base), own.known(base), own.median_s, base.median_s, measured.rounds)
