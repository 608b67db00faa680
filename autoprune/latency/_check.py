"""The final check: a pruned network timed whole in turn with the dense one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from autoprune.latency._measure import PLACEMENTS, resolved_times
from autoprune.latency._remeasuring import Remeasuring
from autoprune.latency._sessions import TargetSession
from autoprune.latency._target import Target
from autoprune.timing import Measured, measuring


@dataclass(frozen=True)
class Ratio:
    """A measured ratio of times, the middle of those of several placements.

    Attributes:
        ratio: The pruned network's time divided by the dense one's in the same round, median over the rounds.
        known: How well that of the middle placement is known, as a share of itself.
        seconds: Median seconds of one batch of the pruned network.
        dense_s: The same of the dense network.
        rounds: Number of rounds.
        least: The smallest ratio of a placement.
        most: The largest.
    """

    ratio: float
    known: float
    seconds: float
    dense_s: float
    rounds: int
    least: float
    most: float


def measured_ratio(
    model: nn.Module,
    pruned: nn.Module,
    target: Target,
    example: Tensor,
    *,
    dense_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time a pruned network against the dense one on a target: `ratio_check`, once."""
    with ratio_check(model, pruned, target, example, dense_s=dense_s, clock=clock) as check:
        return check()


@contextmanager
def ratio_check(
    model: nn.Module,
    pruned: nn.Module,
    target: Target,
    example: Tensor,
    *,
    dense_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Callable[[], Ratio]]:
    """Make a pruned network and the dense one ready for a target; gives what times one against the other, each time anew.

    Slow phases of the machine are waited out, see `Remeasuring`.

    Args:
        model: The dense network; it is not changed.
        pruned: The pruned one; likewise.
        target: The target.
        example: Images (B, C, H, W).
        dense_s: Seconds that the dense network took when the target was profiled; None if that is not known.
        clock: Tells seconds.

    Raises:
        UsageError: if the device is not there.
        AutopruneError: if a network does not run on the target, or the machine is too busy for the ratio to be known.
    """
    target = target.resolved
    with TargetSession(example, target) as session:
        place = {name: session.placer(network) for name, network in (("dense", model), ("pruned", pruned))}

        def measure() -> Measured:
            functions = {name: ready() for name, ready in place.items()}
            return resolved_times(functions, target, clock=clock, first_s=10.0 / PLACEMENTS, second_s=60.0)

        def check() -> Ratio:
            remeasuring = Remeasuring()
            with measuring(target.threads, lambda text: None):
                return middle([remeasuring.best(measure, dense_s) for _ in range(PLACEMENTS)])

        yield check


def middle(placements: Sequence[Measured]) -> Ratio:
    """Return the middle one of what several placements took, by the ratio of "pruned" to "dense"."""
    found = []
    for measured in placements:
        base, own = measured.timings["dense"], measured.timings["pruned"]
        found.append((own.ratio(base), own.known(base), own.median_s, base.median_s, measured.rounds))
    found.sort()
    return Ratio(*found[len(found) // 2], least=found[0][0], most=found[-1][0])
