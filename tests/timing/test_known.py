"""What is said to be known to 2 % is within 2 % of the truth at least 95 times of 100, however times are distributed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from autoprune.timing import Timing, measure
from autoprune.timing._measure import CONFIDENCE, LEAST_ROUNDS

from .._sample import count

TIMES: dict[str, tuple[Callable[[np.random.Generator, float], float], Callable[[float], float]]] = {
    "normal": (lambda rng, s: 1 + s * rng.normal(), lambda s: 1.0),
    "lognormal": (lambda rng, s: math.exp(s * rng.normal()), lambda s: 1.0),
    "exponential": (lambda rng, s: 1 + s * rng.exponential(), lambda s: 1 + s * math.log(2)),
    "heavy tail": (lambda rng, s: 1 + s * rng.pareto(1.5), lambda s: 1 + s * (2 ** (1 / 1.5) - 1)),
    "two speeds": (
        lambda rng, s: 1 + (2 * s if rng.random() < 0.4 else 0) + 0.1 * s * rng.normal(),
        lambda s: 1 + 0.1 * s * float(stats.norm.ppf(0.5 / 0.6)),
    ),
}
"""How long a call takes, given how much times vary, and the median of that."""


@pytest.mark.parametrize("spread", [0.02, 0.08, 0.2])
@pytest.mark.parametrize("kind", TIMES)
def test_what_is_known_to_two_percent_is(kind: str, spread: float) -> None:
    draw, truth = TIMES[kind]
    rng = np.random.default_rng([len(kind), round(1000 * spread)])
    known = wrong = 0
    for _ in range(count(600, 12)):
        now = [0.0]

        def steady(now: list[float] = now) -> None:
            now[0] += 1.0

        def noisy(now: list[float] = now) -> None:
            now[0] += draw(rng, spread)

        found = measure(
            {"dense": steady, "small": noisy},
            clock=lambda now=now: now[0],  # type: ignore[misc]
            budget_s=1e9,
            warmup_s=0.0,
            most_rounds=600,
        )
        if found.precise:
            known += 1
            own, base = found.timings["small"], found.timings["dense"]
            assert own.known(base) <= 0.02
            wrong += abs(own.ratio(base) / truth(spread) - 1) > 0.02
    assert wrong <= stats.binom.ppf(0.999, known, 0.05)


@pytest.mark.parametrize("rounds", [7, 8, 25, 100, 400, 1500])
def test_the_interval_is_the_narrowest_of_its_confidence(rounds: int) -> None:
    values = [float(place) for place in range(1, rounds + 1)]
    ones = Timing((1.0,) * rounds)
    half = Timing(tuple(values)).known(ones) * float(np.median(values))
    inside = sum(abs(value - float(np.median(values))) <= half + 1e-9 for value in values)
    outside = (rounds - inside) // 2
    assert 2 * stats.binom.cdf(outside, rounds, 0.5) <= 1 - CONFIDENCE + 1e-3
    assert 2 * stats.binom.cdf(outside + 1, rounds, 0.5) > 1 - CONFIDENCE - 1e-3


def test_too_few_rounds_are_never_called_enough() -> None:
    now = [0.0]

    def run() -> None:
        now[0] += 1.0

    found = measure(
        {"a": run, "b": run}, clock=lambda: now[0], warmup_s=0.0, least_rounds=3, most_rounds=LEAST_ROUNDS - 1
    )
    assert not found.precise
