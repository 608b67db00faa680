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
from autoprune.timing import Measured, measuring

SLOWER = 1.2
"""A machine on which the dense network takes so many times what it took is not in the state that it was profiled in."""
_AGAIN_S, _PAUSE_S = 60.0, 0.5


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
    dense_s: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time a pruned network against the dense one on a target.

    Processors have slow spells (clock rates, neighbours on the same machine), in which networks of different sizes do not
    slow down alike. Where the dense network takes much longer than it did, it is tried again for up to a minute.

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
    with measuring(target.threads, lambda text: None), Stand(example, target) as stand:
        functions = {name: stand.whole(copy.deepcopy(net)) for name, net in (("dense", model), ("pruned", pruned))}
        measured = _in_its_state(
            lambda: resolved_times(functions, target, clock=clock, try_s=10.0, patience_s=60.0), dense_s
        )
    base, own = measured.timings["dense"], measured.timings["pruned"]
    return Ratio(own.ratio(base), own.known(base), own.median_s, base.median_s, measured.rounds)


def _in_its_state(measure: Callable[[], Measured], dense_s: float | None) -> Measured:
    """Measure until the dense network is about as fast as it was; in the end the times in which it was fastest."""
    began = time.monotonic()
    best = measure()
    while dense_s is not None and _dense_s(best) > SLOWER * dense_s and time.monotonic() - began < _AGAIN_S:
        time.sleep(_PAUSE_S)
        best = min(best, measure(), key=_dense_s)
    return best


def _dense_s(measured: Measured) -> float:
    return measured.timings["dense"].median_s
