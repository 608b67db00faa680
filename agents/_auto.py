"""The built-in searcher: model, solve, score, learn.

What the statistics say of every group's channels, and the scores so far, make a model of how far every policy's outputs diverge
from the dense network's (`Surrogate`). Each episode scores the policy that minimises it within the budget, in turn the most
promising one (the mean) and one that may be better still (the mean minus some standard deviations: Srinivas et al., "Gaussian
Process Optimization in the Bandit Setting", ICML 2010). The divergence (`Score.distance`) is what is modelled: it tells
policies apart whose accuracies tie, and predicts the finished network better than the loss, which is also lowered by outputs
that are merely less confident.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import ClassVar

import numpy as np

from autoprune.agents._allocate import Objective, allocate, improve, neighbours
from autoprune.agents._base import Agent, Counts, agents
from autoprune.agents._checks import check_number, check_switch
from autoprune.agents._history import informative
from autoprune.agents._random import fresh_policy, random_policy
from autoprune.agents._start import FIRST, error_curves, solved_policies, tables
from autoprune.agents._surrogate import FloatArray, IntArray, Surrogate
from autoprune.envs import KnowsSensitivities, ProblemLike
from autoprune.evaluation import Score

NEAR = 32
"""Policies one exchange of channels away that are considered where the best policy was scored already."""
WIDTHS = (0.05, 0.1, 0.1, 0.2, 0.2, 0.4)
"""Standard deviations of the noise on the best policy's keep ratios that makes others to consider."""
FEWEST = 6
"""Policies that are scored before what is expected of others says that they are not worth it."""
_WORST = math.log(1e3)  # the most that a loss is taken to grow


@agents.register("auto")
class Auto(Agent):
    """Solve the allocation on a surrogate of the divergence from the dense network that learns from every score.

    Args:
        problem: What is pruned.
        seed: Seed of the noise that makes other policies where the best one was scored already.
        episodes: How many policies will be scored at most.
        explore: Standard deviations that every other policy is given credit for.
        statistics: Whether the model starts from the calibration statistics' error curves (else from a parabola).
        probe: Whether what such errors do to the outputs is measured first, one group at a time (else guessed by depth).

    Raises:
        UsageError: if an option is out of range.
    """

    needs_budget: ClassVar[bool] = True

    def __init__(
        self,
        problem: ProblemLike,
        *,
        seed: int = 0,
        episodes: int = 100,
        explore: float = 0.5,
        statistics: bool = True,
        probe: bool = True,
    ) -> None:
        super().__init__(problem, seed=seed, episodes=episodes)
        check_number("auto", "explore", explore)
        check_switch("auto", "statistics", statistics)
        check_switch("auto", "probe", probe)
        self._explore = float(explore)
        self._statistics = statistics
        self._probe = probe and statistics
        self._counts: list[Counts] = []
        self._scores: list[Score] = []
        self._asked: tuple[int, Counts | None] | None = None
        self._ended = False
        self._gains: list[float] = []

    @cached_property
    def _sensitivities(self) -> tuple[FloatArray, float] | None:
        return self.problem.sensitivities() if self._probe and isinstance(self.problem, KnowsSensitivities) else None

    @property
    def images(self) -> float:
        """What measuring how much errors matter computes, in images through the dense network."""
        return 0.0 if self._sensitivities is None else self._sensitivities[1]

    @cached_property
    def _surrogate(self) -> Surrogate:
        """The model; made when it is first needed, not for every agent that is made."""
        curves = error_curves(self.problem, statistics=self._statistics)
        weights = None if self._sensitivities is None else self._sensitivities[0]
        return Surrogate(curves, [group.size for group in self.problem.decisions], weights)

    @cached_property
    def _first(self) -> list[Counts]:
        """What is best by what is known before any score: one policy, or three where weights are guessed by depth."""
        return solved_policies(self.problem, self._surrogate, FIRST if self._sensitivities is None else (0.0,))

    def ask(self, episode: int) -> Counts | None:
        """Return the policy to score next; None when there is hardly one that was not scored."""
        if self._ended:
            return None
        if self._asked is None or self._asked[0] != episode:
            self._asked = (episode, self._propose(episode))
            self._ended = self._asked[1] is None
        return self._asked[1]

    def ready(self, episode: int, told: int) -> bool:
        """Return whether it is one of the first, which come from the statistics, or all before it are told."""
        return episode < len(self._first) or episode <= told

    def tell(self, episode: int, counts: Counts, score: Score) -> None:
        """Learn a policy's score."""
        self._counts.append(counts)
        self._scores.append(score)
        self._asked = None

    def expected_gain(self) -> float | None:
        """Return the larger gain of the last two proposals, of which one is the most promising and one may be better still.

        None before `FEWEST` policies are scored, and where the scores say nothing of the metric.
        """
        return max(self._gains[-2:]) if len(self._counts) >= FEWEST and len(self._gains) > 1 else None

    def _expect(self, counts: Counts, scored: list[Counts], values: list[float]) -> None:
        """Remember the expected improvement of a policy (Jones et al., "EGO", J. Global Optimization 1998), in the metric's unit.

        How much of the metric a unit of what is modelled costs is fitted to the scores so far, by least squares through the
        dense network.
        """
        inside = [value for some, value in zip(scored, values, strict=True) if self.problem.projector.fits(some)]
        if not inside:
            return
        mean, deviation = (float(some[0]) for some in self._surrogate.predict(np.asarray([counts], dtype=np.int64)))
        ahead, sigma = min(inside) - mean, max(deviation, 1e-12)
        z = ahead / sigma
        gain = sigma * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) + ahead * (1 + math.erf(z / math.sqrt(2))) / 2
        known = dict(zip(scored, values, strict=True))
        told = zip(self._counts, self._scores, strict=True)
        pairs = [(known[c], self.problem.dense.quality - s.quality) for c, s in told if c in known]
        total = sum(value * value for value, _ in pairs)
        if total > 0:
            self._gains.append(gain * max(sum(value * given for value, given in pairs) / total, 0.0))

    def _propose(self, episode: int) -> Counts | None:
        if episode < len(self._first):
            return self._first[episode]
        scored, values = self._seen()
        self._surrogate.fit(scored, values)
        credit = self._explore if episode % 2 else 0.0

        def objective(counts: IntArray) -> FloatArray:
            mean, deviation = self._surrogate.predict(counts)
            return mean - credit * deviation

        best = [scored[int(place)] for place in np.argsort(values, kind="stable")[:2]]
        found = self._best(
            objective, self._surrogate.weights, [k for k in best if self.problem.projector.fits(k)], episode
        )
        if found is not None:
            self._expect(found, scored, values)
        return found

    def _seen(self) -> tuple[list[Counts], list[float]]:
        """Return the policies to learn from, and for each what is to become small, 0 for the dense network.

        That is the divergence of the outputs from the dense network's (scores without one are left out), or,
        where no score knows it, how the loss grew. Of very many policies only some are learned from (`informative`).
        """
        known = [place for place, score in enumerate(self._scores) if math.isfinite(score.distance)]
        if known:
            values = [self._scores[place].distance for place in known]
        else:
            known = list(range(len(self._scores)))
            values = [growth(self.problem, score) for score in self._scores]
        fitted = informative(values)
        return [self._counts[known[place]] for place in fitted], [values[place] for place in fitted]

    def _best(self, objective: Objective, weights: FloatArray, starts: list[Counts], episode: int) -> Counts | None:
        """Return the best policy found that was not scored yet; None where there is hardly another."""
        levels, projector = self.problem.levels, self.problem.projector
        starts = [allocate(tables(self._surrogate, levels, weights), levels, projector), *starts]
        ends = list(dict.fromkeys(improve(objective, start, levels, projector) for start in starts))
        values = objective(np.asarray(ends, dtype=np.int64))
        best = ends[int(np.argmin(values))]
        known = set(self._counts)
        if best not in known:
            return best
        others = [counts for counts in self._around(objective, best, episode) if counts not in known]
        if others:
            return others[int(np.argmin(objective(np.asarray(others, dtype=np.int64))))]
        return fresh_policy(self.problem, self.rng(episode, stream=1), known)

    def _around(self, objective: Objective, best: Counts, episode: int) -> list[Counts]:
        """Return policies near the best one: an exchange away, or its keep ratios with some noise; and random ones."""
        levels, projector = self.problem.levels, self.problem.projector
        near = neighbours(objective, np.asarray(best, dtype=np.int64), levels, projector)
        order = np.argsort(objective(near), kind="stable")[:NEAR] if len(near) else ()
        found = [projector.fill([int(count) for count in near[int(place)]]) for place in order]
        rng = self.rng(episode)
        sizes = np.array([group.size for group in self.problem.decisions])
        noisy = [np.asarray(best) / sizes + rng.normal(0.0, width, len(sizes)) for width in WIDTHS]
        found += [projector.project(ratios.tolist()) for ratios in noisy]
        found += [random_policy(self.problem, rng) for _ in WIDTHS]
        return list(dict.fromkeys(found))


def growth(problem: ProblemLike, score: Score) -> float:
    """Return the logarithm of a loss over the dense network's; of the share of errors where no loss is measured.

    Of another metric without a loss: the logarithm of 1 and its share of the dense network's that was given up.
    """
    dense = problem.dense
    if math.isfinite(dense.loss) and dense.loss > 0:
        before, after = dense.loss, score.loss
    elif not score.metric.share:
        return min(math.log1p(score.given_up(dense)), _WORST)
    else:
        before, after = 1.0 - dense.accuracy, 1.0 - score.accuracy
    before = max(before, 1e-3)
    return min(math.log(max(after, 1e-6) / before), _WORST) if math.isfinite(after) else _WORST
