"""Which scores a model of the search is fitted to, when there are more than a fit should take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_FITTED = 256
"""Scores that a model is fitted to at most.

A Gaussian process takes the cube of their number, a Parzen estimator made anew from the history the square in all: at 2,000 a
proposal would take longer than the score of a small network. Near the best policies, where proposals are made, nothing is
left out.
"""


def informative(values: Sequence[float], most: int = MOST_FITTED) -> list[int]:
    """Return which scores to fit, as places in their order: all of them, or the better ones and every so many of the rest.

    Args:
        values: What is to become small, one value a score.
        most: How many to return at most, at least 2.

    Returns:
        Places, ascending: the ``most // 2`` smallest values, and of the others as many as remain, evenly spread over the search.
    """
    if len(values) <= most:
        return list(range(len(values)))
    order = np.argsort(np.asarray(values, dtype=np.float64), kind="stable")
    best, rest = order[: most // 2], np.sort(order[most // 2 :])
    spread = rest[np.linspace(0, len(rest) - 1, most - len(best)).round().astype(np.int64)]
    return sorted({int(place) for place in (*best, *spread)})
