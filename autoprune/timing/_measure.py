"""The timer: several functions called in turn, until their quotients are known well enough.

A machine's speed drifts (other processes, clock rates), so times measured one after another cannot be compared. Here every
round calls every function once, beginning with another one each round; functions are compared round by round. A quick one is
called several times a round, and the least time counts: that is the one which other processes disturbed least.

How well a quotient is known is the confidence interval of a median by order statistics, which holds for any distribution of
times, skewed ones too (David & Nagaraja, *Order Statistics*, 2003, section 7.1). Rounds go on until the interval is narrow
enough, and a rule that stops when it likes what it sees is wrong more often than a single interval: so the interval is only
taken after numbers of rounds that grow by a quarter each time, at a confidence of 98 %. In simulation, over normal, skewed,
heavy-tailed and bimodal times, at least 95 % of the quotients said to be known to 2 % are within 2 % of the truth.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, median, quantiles

from autoprune.errors import UsageError

_LEAST_CALLS = 3  # of each function before anything is measured
CONFIDENCE = 0.98
"""Confidence of the interval of a median."""
LEAST_ROUNDS = 7
"""Rounds below which no interval of that confidence exists."""
_GROWTH = 1.25  # of the number of rounds between two checks
_NORMAL = NormalDist().inv_cdf((1.0 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Timing:
    """Times of one function.

    Attributes:
        samples: Seconds of one call, one value a round.
    """

    samples: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The median in seconds."""
        return median(self.samples)

    @property
    def iqr_s(self) -> float:
        """The interquartile range in seconds."""
        return _iqr(self.samples)

    def ratio(self, base: Timing) -> float:
        """Return the median over the rounds of this function's time divided by that of ``base``."""
        return median(_quotients(self, base))

    def known(self, base: Timing) -> float:
        """Return how well `ratio` is known, as a share of itself: the farther end of its confidence interval.

        With fewer than ``LEAST_ROUNDS`` samples there is no such interval, and the farthest sample is taken.
        """
        return _half_width(_quotients(self, base))


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        timings: By name, all with the same number of samples.
        precise: Whether the wanted precision was reached; if not, the machine was too busy, or the time or the rounds too few.
    """

    timings: Mapping[str, Timing]
    precise: bool

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return len(next(iter(self.timings.values())).samples)


def measure(
    functions: Mapping[str, Callable[[], object]],
    *,
    precision: float = 0.02,
    budget_s: float = 5.0,
    least_rounds: int = LEAST_ROUNDS,
    most_rounds: int = 300,
    sample_s: float = 0.005,
    warmup_s: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> Measured:
    """Time functions in turn.

    Args:
        functions: What is timed, by name. The others are compared with the first. Each returns when its work is done.
        precision: Rounds go on until each quotient with the first (or, of a single function, its time) is known to this
            share of itself.
        budget_s: After so many seconds of rounds no other is begun, once there are ``least_rounds``.
        least_rounds: Fewest rounds.
        most_rounds: Most rounds.
        sample_s: A function that takes less is called several times a round, and the least time counts.
        warmup_s: Each function is first called for so long, at least three times; that is not counted.
        clock: Tells seconds.

    Raises:
        UsageError: if there is no function, or a number makes no sense.
    """
    if not functions:
        raise UsageError("There is nothing to time; give at least one function.")
    if not 1 <= least_rounds <= most_rounds:
        raise UsageError(f"The rounds are {least_rounds} to {most_rounds}, but must be at least 1 and not fall.")
    names = list(functions)
    calls = {name: _warm_up(functions[name], warmup_s, sample_s, clock) for name in names}
    samples: dict[str, list[float]] = {name: [] for name in names}
    began = clock()
    precise = False
    check = max(least_rounds, LEAST_ROUNDS)
    for round_ in range(most_rounds):
        first = round_ % len(names)
        for name in (*names[first:], *names[:first]):
            samples[name].append(_sample(functions[name], calls[name], clock))
        rounds = round_ + 1
        if rounds >= check:
            precise = _uncertainty(samples) <= precision
            check = max(rounds + 1, math.ceil(_GROWTH * rounds))
        if precise or (rounds >= least_rounds and clock() - began >= budget_s):
            break
    return Measured({name: Timing(tuple(values)) for name, values in samples.items()}, precise)


def _warm_up(function: Callable[[], object], warmup_s: float, sample_s: float, clock: Callable[[], float]) -> int:
    """Call a function until it is warm; returns how often it is to be called for one sample."""
    began = clock()
    fastest = math.inf
    calls = 0
    while calls < _LEAST_CALLS or clock() - began < warmup_s:
        start = clock()
        function()
        fastest = min(fastest, clock() - start)
        calls += 1
    return max(1, math.ceil(sample_s / fastest)) if fastest > 0 else calls


def _sample(function: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    with _no_collection():
        times = []
        for _ in range(calls):
            start = clock()
            function()
            times.append(clock() - start)
        return min(times)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of a sample, as ``timeit`` does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _uncertainty(samples: Mapping[str, Sequence[float]]) -> float:
    """Return how well the worst known quotient (or the only time) is known, as a share of itself."""
    timings = [Timing(tuple(values)) for values in samples.values()]
    series = [_quotients(timing, timings[0]) for timing in timings[1:]] or [timings[0].samples]
    return max(_half_width(values) for values in series)


def _half_width(values: Sequence[float]) -> float:
    """Return how far the farther end of the median's confidence interval is from it, as a share of the median."""
    ordered = sorted(values)
    middle = median(ordered)
    if middle <= 0:
        return 0.0
    outside = _outside(len(ordered))
    return max(middle - ordered[outside], ordered[-1 - outside] - middle) / middle


@cache
def _outside(count: int) -> int:
    """Return how many of ``count`` sorted values lie outside of the median's confidence interval, on either side.

    The interval from the (k+1)-th smallest to the (k+1)-th largest value misses the median with a probability of
    2 P(Binomial(count, 1/2) <= k), whatever the distribution.
    """
    allowed = (1.0 - CONFIDENCE) / 2 * 2.0**count if count < 1000 else math.inf
    if math.isinf(allowed):  # by the normal approximation
        return max(0, math.floor((count - 1) / 2 - _NORMAL * math.sqrt(count) / 2))
    below, outside = 1.0, 0
    while outside < (count - 1) // 2:
        below += math.comb(count, outside + 1)
        if below > allowed:
            break
        outside += 1
    return outside


def _quotients(timing: Timing, base: Timing) -> tuple[float, ...]:
    return tuple(own / other if other > 0 else 1.0 for own, other in zip(timing.samples, base.samples, strict=True))


def _iqr(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return upper - lower
