"""The best counts within a budget for a loss that is known: what a surrogate is asked for.

A sum over groups is solved with one price for the budget (Everett, "Generalized Lagrange Multiplier Method", Operations
Research 1963): every group takes the level of the least loss plus price, and the price is bisected. What rounding leaves, costs
of two groups multiplied, several limits, and losses that are no sum are the business of exchanges: one group up, another down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from autoprune.agents._base import Counts
from autoprune.envs import ProjectorLike

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Objective = Callable[[IntArray], FloatArray]
"""Losses of many policies: counts of shape (N, groups) to shape (N,)."""

STEPS = (1, 2, 4)  # levels that an exchange goes up or down
BEST = 24  # moves up, and down, that are tried in pairs
_BISECTIONS = 24
_SWEEPS = 3


def allocate(tables: Sequence[FloatArray], levels: Sequence[tuple[int, ...]], projector: ProjectorLike) -> Counts:
    """Return nearly the policy of the smallest sum of losses within the budget; exchanges do the rest.

    Args:
        tables: For each group the loss of each of its levels.
        levels: The allowed counts, ascending.
        projector: The budget.
    """
    allowed = [np.asarray(some, dtype=np.int64) for some in levels]
    found = np.array([some[0] for some in allowed], dtype=np.int64)
    low, high = 0.0, 1.0
    while not projector.fits(_priced(tables, allowed, projector, found, high).tolist()) and high < 1e9:
        high *= 8.0
    for _ in range(_BISECTIONS):
        middle = np.sqrt(low * high) if low > 0 else high / 8.0
        counts = _priced(tables, allowed, projector, found, middle)
        if projector.fits(counts.tolist()):
            high, found = middle, counts
        else:
            low = middle
    return projector.fill([int(count) for count in found])


def _priced(
    tables: Sequence[FloatArray],
    allowed: Sequence[IntArray],
    projector: ProjectorLike,
    start: IntArray,
    price: float,
) -> IntArray:
    """Return the policy of the least loss plus ``price`` times usage, group by group."""
    counts = start.copy()
    for _ in range(_SWEEPS):
        before = counts.copy()
        for group, (table, some) in enumerate(zip(tables, allowed, strict=True)):
            tried = np.repeat(counts[None], len(some), axis=0)
            tried[:, group] = some
            counts[group] = some[int(np.argmin(table + price * projector.usage_many(tried)))]
        if (before == counts).all():
            break
    return counts


def improve(
    objective: Objective,
    start: Sequence[int],
    levels: Sequence[tuple[int, ...]],
    projector: ProjectorLike,
    *,
    rounds: int = 60,
) -> Counts:
    """Return what exchanges make of a policy within the budget: each time the best one, until none is better.

    Args:
        objective: What is to become small.
        start: A policy within the budget.
        levels: The allowed counts, ascending.
        projector: The budget.
        rounds: Exchanges at most.
    """
    counts = np.asarray(start, dtype=np.int64)
    value = float(objective(counts[None])[0])
    for _ in range(rounds):
        near = neighbours(objective, counts, levels, projector)
        if not len(near):
            break
        values = objective(near)
        best = int(np.argmin(values))
        if values[best] >= value - 1e-12:
            break
        value, counts = float(values[best]), near[best]
    return projector.fill([int(count) for count in counts])


def neighbours(
    objective: Objective, counts: IntArray, levels: Sequence[tuple[int, ...]], projector: ProjectorLike
) -> IntArray:
    """Return the policies within the budget that are one exchange away, the promising ones only; shape (N, groups)."""
    usage = float(projector.usage_many(counts[None])[0])
    value = float(objective(counts[None])[0])
    moves: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for group, some in enumerate(levels):
        place = some.index(int(counts[group]))
        moves[0].extend([(group, some[place + step]) for step in STEPS if place + step < len(some)])
        moves[1].extend([(group, some[place - step]) for step in STEPS if place - step >= 0])
    ups, downs = (_most_promising(objective, projector, counts, some, value, usage) for some in moves)
    tried = [_moved(counts, move) for move in (*ups, *downs)]
    tried += [_moved(counts, up, down) for up in ups for down in downs if up[0] != down[0]]
    if not tried:
        return np.zeros((0, len(counts)), dtype=np.int64)
    all_of = np.stack(tried)
    return all_of[projector.fits_many(all_of)]


def _moved(counts: IntArray, *moves: tuple[int, int]) -> IntArray:
    moved = counts.copy()
    for group, count in moves:
        moved[group] = count
    return moved


def _most_promising(
    objective: Objective,
    projector: ProjectorLike,
    counts: IntArray,
    moves: Sequence[tuple[int, int]],
    value: float,
    usage: float,
) -> list[tuple[int, int]]:
    """Return the moves that lower the loss most, or raise it least, for what they take of the budget or give back."""
    if not moves:
        return []
    tried = np.stack([_moved(counts, move) for move in moves])
    change = objective(tried) - value
    used = np.maximum(np.abs(projector.usage_many(tried) - usage), 1e-9)
    order = np.argsort(change / used, kind="stable")[:BEST]
    return [moves[int(place)] for place in order]
