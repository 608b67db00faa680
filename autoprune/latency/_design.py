"""Which pruned networks are measured: the dense one, the smallest, and others that fill the space of channel counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprune.support.packages import lazy

qmc = lazy("scipy.stats.qmc", "A budget of latency needs")

_SPREAD = 0.6


def design(levels: Sequence[tuple[int, ...]], number: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Return channel counts of networks to be measured; every beginning of the list fills the space, too.

    A network's groups keep about the same share, more or less by up to 0.3: from the smallest network to the dense one
    they are like what a search scores. Within a network every group's count is another, so that layers of one kind are
    seen with many pairs of channels in and out.

    Args:
        levels: For each decision the allowed counts, ascending.
        number: How many networks, the dense and the smallest one included.
        seed: Of the sequence (Sobol', scrambled).
    """
    whole = tuple(allowed[-1] for allowed in levels)
    smallest = tuple(allowed[0] for allowed in levels)
    exponent = max(1, int(np.ceil(np.log2(max(2, number)))))
    points = qmc.Sobol(len(levels) + 1, rng=np.random.default_rng(seed)).random_base2(exponent)
    found = [whole, smallest]
    for point in points:
        shares = (point[0] + _SPREAD * (point[1:] - 0.5)).clip(0.0, 1.0)
        found.append(tuple(_nearest(allowed, share) for allowed, share in zip(levels, shares, strict=True)))
    return list(dict.fromkeys(found))[:number]


def lines(decisions: int) -> list[list[float]]:
    """Return keep ratios that are equal, rise and fall over depth: projected onto a budget, what a profile is refined with."""
    return [np.clip(np.linspace(0.5 - s / 2, 0.5 + s / 2, decisions), 0.05, 1.0).tolist() for s in (0.0, 0.6, -0.6)]


def _nearest(allowed: tuple[int, ...], share: float) -> int:
    wanted = allowed[0] + share * (allowed[-1] - allowed[0])
    return min(allowed, key=lambda count: abs(count - wanted))
