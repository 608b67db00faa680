"""Which of the scored policies a search ends with. Pure functions over scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from autoprune.budget import Budget
from autoprune.evaluation import Score, clearly_ahead
from autoprune.runs import Episode

MOST_POINTS = 16
"""Points of a front that are finished."""


def ranked(episodes: Iterable[Episode], budget: Budget) -> list[Episode]:
    """Return the episodes within the budget, the best first, each policy once.

    At a fixed budget the best has the highest reward, of equals the least loss; within a drop of accuracy it is the smallest,
    of equals the most accurate; of a front it is the knee, then the others by their distance from it.

    Args:
        episodes: What was scored, in order; of equals the first comes first.
        budget: What was asked for.
    """
    seen: set[tuple[int, ...]] = set()
    found = []
    for episode in episodes:
        counts = tuple(episode.counts.values())
        if episode.feasible and counts not in seen:
            seen.add(counts)
            found.append(episode)
    if budget.minimize is None:
        return sorted(found, key=_place)
    kind = budget.minimize
    if budget.max_drop is not None:
        return sorted(found, key=lambda e: (e.score.of(kind), -e.score.quality))
    points = front(found, kind)
    if not points:
        return []
    middle = points.index(knee(points, kind))
    return [points[place] for place in sorted(range(len(points)), key=lambda place: abs(place - middle))]


def candidates(own: Sequence[Episode], others: Sequence[Episode], most: int) -> tuple[list[Episode], int]:
    """Return in which order policies of a fixed budget are to be finished, and how many of them are in any case.

    The agent's best and the best of the others come first, whichever is better, so that the simple rules are measured where
    they may win; then all the rest, the best first. Of the first few those are left for later that are clearly worse than the
    best (`autoprune.evaluation.clearly_ahead`).

    Args:
        own: The agent's policies within the budget, the best first.
        others: Those of the simple rules (and of random search), likewise.
        most: How many are finished at most to choose between.
    """
    seen = {tuple(episode.counts.values()) for episode in own}
    others = [episode for episode in others if tuple(episode.counts.values()) not in seen]
    order = [*sorted([*own[:1], *others[:1]], key=_place), *sorted([*own[1:], *others[1:]], key=_place)]
    best = order[0].score
    first = [
        episode
        for episode in order[:most]
        if not clearly_ahead(best.quality - episode.score.quality, best.drop_se, episode.score.drop_se)
    ]
    return [*first, *(episode for episode in order if episode not in first)], len(first)


def _place(episode: Episode) -> tuple[float, float]:
    return -episode.score.reward, _finite(episode.score.loss)


def front(episodes: Iterable[Episode], kind: str) -> list[Episode]:
    """Return the episodes than which no other is both smaller and more accurate, from the smallest up.

    Args:
        episodes: What was scored.
        kind: The cost set against accuracy.
    """
    points: list[Episode] = []
    for episode in sorted(episodes, key=lambda e: (e.score.of(kind), -e.score.quality)):
        if not points or episode.score.quality > points[-1].score.quality:
            points.append(episode)
    return points


def knee(points: Sequence[Episode], kind: str) -> Episode:
    """Return the point of a front that lies farthest above the line between its ends."""
    first, last = points[0].score, points[-1].score
    width, height = last.of(kind) - first.of(kind), last.quality - first.quality

    def above(point: Episode) -> float:
        along = (point.score.of(kind) - first.of(kind)) / width if width else 0.0
        return (point.score.quality - first.quality) - along * height

    return max(points, key=above)


def descent(episodes: Iterable[Episode], budget: Budget, dense: Score, most: int) -> list[Episode]:
    """Return what may be the smallest within a drop of accuracy: the front, from the largest policy down.

    They are to be tried in this order on images that had no part in choosing them, each with full confidence, up to the first
    that fails; the last that passes is the result. Whatever is tried, a network that loses too much is then taken with no more
    than the chance of a single test ("fixed sequence": Maurer, Hothorn and Lehmacher, 1995).

    Args:
        episodes: What was scored and meets the limits, whether it is within the drop or not.
        budget: What was asked for, with ``max_drop``.
        dense: The dense network's score on the images that scored them.
        most: How many may be tried; evenly spaced, the largest and the smallest among them.
    """
    found = [e for e in episodes if e.score.within(budget, dense, sure=False)]
    return thinned(front(found, str(budget.minimize)), most)[::-1]


T = TypeVar("T")


def thinned(points: Sequence[T], most: int = MOST_POINTS) -> list[T]:
    """Return at most so many of the points, evenly spaced, both ends among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def area(points: Sequence[Episode], kind: str, dense: Score) -> float:
    """Return the area below a front, in [0, 1]: accuracy over the dense cost's shares (the hypervolume; reference: 1, 0).

    A metric that is no share counts as 1 where it is as good as the dense network's, as 1/2 where as much is lost again.
    """

    def height(score: Score) -> float:
        return score.accuracy if score.metric.share else 1.0 / (1.0 + score.given_up(dense))

    total, right = 0.0, 1.0
    for point in reversed(points):
        share = min(point.score.of(kind) / dense.of(kind), right)
        total += (right - share) * height(point.score)
        right = share
    return total


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
