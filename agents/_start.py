"""What a search begins with: nothing, the simple rules, or what the calibration statistics say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autoprune.agents._allocate import allocate, improve
from autoprune.agents._base import Counts
from autoprune.agents._rules import rule_policies
from autoprune.agents._surrogate import FloatArray, Surrogate
from autoprune.decisions import share_lost
from autoprune.envs import KnowsErrors, ProblemLike
from autoprune.errors import UsageError

STARTS = ("nothing", "rules", "statistics")
FIRST = (0.0, -2.0, 1.5)
"""Slopes over depth (`Surrogate.sloped`) of policies from the statistics: none, more weight on the first groups, on the last."""


def first_policies(problem: ProblemLike, start: object, *, agent: str) -> list[Counts]:
    """Return the policies that an agent begins with, each different one once.

    Args:
        problem: What is pruned.
        start: "nothing", "rules" (`uniform`, `shallow`, `deep`) or "statistics" (what minimises the error that the calibration
            statistics predict, with depth weighed in three ways).
        agent: Who asks, for the message.

    Raises:
        UsageError: for another start.
    """
    if not isinstance(start, str) or start not in STARTS:
        raise UsageError(f"The value of 'start' is {start!r}, but {agent} needs one of {', '.join(STARTS)}.")
    if start == "rules":
        return rule_policies(problem)
    if start == "nothing":
        return []
    return solved_policies(problem, Surrogate(error_curves(problem), [group.size for group in problem.decisions]))


def solved_policies(problem: ProblemLike, surrogate: Surrogate, slopes: Sequence[float] = FIRST) -> list[Counts]:
    """Return what is best within the budget by a model that was told no score, with depth weighed in some ways."""
    found = []
    for slope in slopes:
        weights = surrogate.sloped(slope)
        start = allocate(tables(surrogate, problem.levels, weights), problem.levels, problem.projector)
        found.append(improve(lambda k: surrogate.errors(k) @ weights, start, problem.levels, problem.projector))  # noqa: B023
    return list(dict.fromkeys(found))


def tables(surrogate: Surrogate, levels: Sequence[tuple[int, ...]], weights: FloatArray) -> list[FloatArray]:
    """Return for each group the loss of every level, alone; a weight of nothing is a thousandth of the largest."""
    sizes = [some[-1] for some in levels]
    found = []
    for group, (some, weight) in enumerate(zip(levels, np.maximum(weights, 1e-3 * weights.max()), strict=True)):
        counts = np.tile(np.asarray(sizes, dtype=np.int64), (len(some), 1))
        counts[:, group] = some
        found.append(weight * surrogate.errors(counts)[:, group])
    return found


def error_curves(problem: ProblemLike, *, statistics: bool = True) -> list[npt.NDArray[np.float64]]:
    """Return for each group the error of every count, from 0 to its size: the problem's own where it knows them.

    Args:
        problem: The problem.
        statistics: Whether to ask it; else, and where it does not know, a parabola.
    """
    known = problem.errors() if statistics and isinstance(problem, KnowsErrors) else None
    if known is not None:
        return [np.asarray(curve, dtype=np.float64) for curve in known]
    return [share_lost(decision) for decision in problem.decisions]
