"""What the environment and agents need of a problem, and nothing more.

``autoprune.problem.Problem`` satisfies ``ProblemLike``; so does ``autoprune.testing.ToyProblem``, whose score is a
formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from autoprune.budget import Budget
from autoprune.decisions import Decision
from autoprune.evaluation import Score
from autoprune.graph import Layer


class GraphLike(Protocol):
    """The part of a ``PruningGraph`` the features are computed from."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All convolution and linear calls, in execution order."""


class CostLike(Protocol):
    """The closed-form cost of a policy, see ``autoprune.cost.CostModel``."""

    @property
    def dense_macs(self) -> int:
        """MACs of the unpruned network for one image."""

    def macs(self, counts: Sequence[int], /) -> int:
        """Return the MACs of the network that keeps ``counts``, one per decision."""

    def params(self, counts: Sequence[int], /) -> int:
        """Return its number of parameters."""


class ProjectorLike(Protocol):
    """What makes a policy meet the budget, see ``autoprune.cost.Projector``."""

    def fits(self, counts: Sequence[int], /) -> bool:
        """Whether a policy is within the budget."""

    def fits_many(self, counts: npt.ArrayLike, /) -> npt.NDArray[np.bool_]:
        """Return which of many policies are within the budget; counts of shape (N, decisions), result of shape (N,)."""

    def usage(self, counts: Sequence[int], /) -> float:
        """Return how much of the budget a policy uses: the largest share of a limit; at most 1 fits."""

    def usage_many(self, counts: npt.ArrayLike, /) -> npt.NDArray[np.float64]:
        """Return the usage of many policies; counts of shape (N, decisions), result of shape (N,)."""

    def project(self, ratios: Sequence[float], /) -> tuple[int, ...]:
        """Return the counts nearest to the keep ratios asked for that meet the budget."""

    def fill(self, counts: Sequence[int], /) -> tuple[int, ...]:
        """Return ``counts`` with what is left of the budget handed out."""

    def bounds(self, prefix: Sequence[int], /) -> tuple[int, int]:
        """Return the smallest and the largest count the next decision after ``prefix`` may take."""


@runtime_checkable
class KnowsErrors(Protocol):
    """A problem that knows from its statistics how much each count of each decision disturbs; not every one does."""

    def errors(self) -> Sequence[npt.NDArray[np.float64]] | None:
        """Return for each decision the error of each count from 0 to the group's size, 0 for the whole group; None: not known."""


@runtime_checkable
class KnowsSensitivities(Protocol):
    """A problem that can see, without scoring, how much its errors matter; not every one can."""

    def sensitivities(self) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return what a unit of each decision's error does, up to a factor, and what that cost in dense images; None: unknown."""


class ProblemLike(Protocol):
    """A model, data and budget seen from above: decisions to take, what they cost, how well they score."""

    @property
    def graph(self) -> GraphLike:
        """The coupling graph."""

    @property
    def decisions(self) -> Sequence[Decision]:
        """What a policy decides, in execution order."""

    @property
    def levels(self) -> Sequence[tuple[int, ...]]:
        """The levels allowed for each decision (channels kept of a group), ascending, the last one all of it."""

    @property
    def cost(self) -> CostLike:
        """The cost model over the decisions."""

    @property
    def projector(self) -> ProjectorLike:
        """The projection onto the budget."""

    @property
    def budget(self) -> Budget:
        """The budget."""

    @property
    def dense(self) -> Score:
        """The unpruned network's score."""

    def at(self, budget: Budget, /) -> ProblemLike:
        """Return the same problem with another budget of the same kinds of cost."""

    def score(self, counts: Sequence[int], /) -> Score:
        """Return the score of a policy, the reward included; the same counts always get the same score."""
