"""The problem that a policy answers: channel counts in, a score out. It knows no agent."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autoprune.budget import Budget
from autoprune.decisions import Decision
from autoprune.errors import UsageError
from autoprune.evaluation import Answers, RewardFn, Score, call_reward, check_reward, resolve_reward
from autoprune.graph import IntArray, PruningGraph
from autoprune.latency import Ratio
from autoprune.model_guard import unchanged
from autoprune.problem._budgeted import Budgeted
from autoprune.problem._finished import Finished
from autoprune.problem._pruner import Pruner
from autoprune.problem._scorer import Scorer
from autoprune.reconstruct import Refit
from autoprune.registry import nearest
from autoprune.support.answers import ByImage
from autoprune.support.device import clock
from autoprune.support.packages import require
from autoprune.surgery import loader_text

if TYPE_CHECKING:
    from autoprune.cost import Cost, CostModel, Projector


class Problem:
    """A pruning problem: propose channel counts, get a score. `make_problem` makes one with its parts.

    Args:
        budgeted: What is decided, and within which limits.
        pruner: Makes the small networks.
        scorer: Says how good they are.
        reward: A registered name, ``package.module:function``, or ``fn(score, dense, budget) -> float``.
        notes: Further sentences that the user should read.
        seconds: What making the parts took, by `autoprune.support.device.clock`.
        step: Told what is computed beside scores, and how many dense passes that takes at most.

    Attributes:
        dense: The dense network's score on the search part.
        setup_images: What preparing the search computed, in images through the dense network: the statistics of the calibration
            images, second moments included, and one pass over the search images (four where its time is not known from one).
        setup_cost: The same in dense passes over the search images, by the clock, with tracing and the proof.
        notes: Sentences that the user should read before the search.
        reward: What is maximised.

    Raises:
        UsageError: for an unknown reward, or one that does not go with the budget.
    """

    def __init__(
        self,
        budgeted: Budgeted,
        pruner: Pruner,
        scorer: Scorer,
        *,
        reward: str | RewardFn = "accuracy",
        notes: Sequence[str] = (),
        seconds: float = 0.0,
        step: Callable[[str, float], None] | None = None,
    ) -> None:
        self._budgeted, self._pruner, self._scorer = budgeted, pruner, scorer
        self.reward: RewardFn = resolve_reward(reward)
        check_reward(reward, self.budget)
        self._baseline: Answers | None = None
        self._step = step
        self.dense = scorer.dense
        self.dense = self._rewarded(scorer.dense)
        self.setup_cost = seconds / scorer.dense_seconds
        self.setup_images = pruner.statistics_macs / self.cost.dense_macs + scorer.setup_images
        self.notes: tuple[str, ...] = (*budgeted.notes, *pruner.notes, *notes)

    @property
    def model(self) -> nn.Module:
        """The dense network, in eval mode; a copy of the user's."""
        return self._budgeted.traced.model

    @property
    def graph(self) -> PruningGraph:
        """The proved coupling graph."""
        return self._budgeted.traced.graph

    @property
    def traced_as(self) -> dict[str, Any]:
        """What a policy file says of how the network was traced, where it is not all of it called with one tensor."""
        return self._budgeted.traced.described

    @property
    def device(self) -> torch.device:
        """Where networks run."""
        return self._budgeted.traced.device

    @property
    def budget(self) -> Budget:
        """What is to be met."""
        return self._budgeted.budget

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What a policy decides, in execution order."""
        return self._budgeted.decided.decisions

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """For each decision the allowed counts."""
        return self._budgeted.decided.levels

    @property
    def cost(self) -> CostModel:
        """Closed-form MACs and parameters."""
        return self._budgeted.decided.cost

    @property
    def costs(self) -> Mapping[str, Cost]:
        """What the budget limits, by kind, as functions of the counts."""
        return self._budgeted.decided.costs

    @property
    def projector(self) -> Projector:
        """Makes policies meet the budget."""
        return self._budgeted.decided.projector

    @property
    def dense_seconds(self) -> float:
        """Time of one pass of the dense network over the search part, the unit of `Score.cost`."""
        return self._scorer.dense_seconds

    @property
    def dense_report(self) -> Score | None:
        """The dense network's score on the report part, None if there is none."""
        return self._scorer.dense_report

    @property
    def dense_right(self) -> ByImage | None:
        """Which images the dense network gets right, as `Finished.right`."""
        return self._scorer.dense_right

    @property
    def report_images(self) -> int | None:
        """Number of images that the report's accuracy is of (the search part's if there is no report part); None if not known."""
        return self._scorer.report_images

    def _rewarded(self, score: Score) -> Score:
        return replace(score, reward=call_reward(self.reward, score, self.dense, self.budget))

    def at(self, budget: Budget) -> Problem:
        """Return the same problem with another budget of the same kinds; nothing is measured or traced again.

        Raises:
            UsageError: if a kind of cost is limited that this problem does not know.
        """
        other = copy.copy(self)
        other._budgeted = self._budgeted.at(budget)
        return other

    def timed(self, network: nn.Module) -> Ratio | None:
        """Return what a finished network takes on the target, timed against the dense one; None where latency does not count.

        Raises:
            AutopruneError: if the machine is too busy for it to be known.
        """
        return self._budgeted.timed(network)

    def loader(self, network: nn.Module) -> str:
        """Return the text of a ``load.py`` for a finished network, see `autoprune.surgery.loader_text`."""
        traced = self._budgeted.traced
        return loader_text(self.model, network, self.graph, traced.view(network), traced.inputs.to(self.device))

    def env(self, name: str = "ChannelPruning-v0", **options: Any) -> Any:
        """Return the problem as a game for any Gymnasium learner.

        Args:
            name: The environment, of those that `autoprune.envs` registers with Gymnasium as ``autoprune/NAME``.
            **options: The environment's own arguments.

        Raises:
            UsageError: if Gymnasium is not installed, or there is no such environment.

        Example:
            >>> observation, info = problem.env().reset(seed=0)
        """
        require("An environment needs", "gymnasium")
        import gymnasium

        try:
            return gymnasium.make(f"autoprune.envs:autoprune/{name}", problem=self, **options)
        except gymnasium.error.UnregisteredEnv as error:
            known = [spec.partition("/")[2] for spec in gymnasium.registry if spec.startswith("autoprune/")]
            raise UsageError(
                f"Unknown environment '{name}'.{nearest(name, known)} Known: {', '.join(known)}."
            ) from error

    def prune(self, counts: Sequence[int]) -> nn.Module:
        """Return the small network of a policy as the search sees it.

        Args:
            counts: Channels to keep, one per decision.
        """
        return self._pruner.prune(counts)

    def errors(self) -> list[npt.NDArray[np.float64]] | None:
        """Return what the statistics say of every decision: the error of its consumers, once refitted, for each count kept.

        In shares of the consumers' mean squared output, from the calibration images' moments; no network is run. Shapes
        (size + 1,), 0 for the whole group. None where nothing is refitted.
        """
        return self._pruner.errors()

    def sensitivities(self) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return how much a unit of `errors` matters in every decision, up to a common factor, shape (decisions,).

        Seen on some search images (calibration images where those are not held) as the distance of the network's
        answers from its own with that one group pruned, from which follows what is expected where all groups are; no label is
        read and no policy scored. At most one dense pass over the search images is spent, and what it was, in images through
        the dense network, is returned too. None where nothing is refitted or the network has no blocks.
        """
        if self._step is not None:
            self._step("Probing how much each group matters", 1.0)
        return self._pruner.sensitivities(self._scorer.some(), self._scorer.size)

    def run(self, model: nn.Module) -> tuple[float, float]:
        """Run a network over the search part and return (accuracy, loss)."""
        return self._scorer.run(model)

    @unchanged()
    def score(self, counts: Sequence[int]) -> Score:
        """Prune, refit, run on the search part; the same counts always get the same score (but for its time).

        Args:
            counts: Channels to keep, one per decision.
        """
        began = clock(self.device)
        score = self._scorer.score(self.prune(counts), counts, self._baseline)
        seconds = clock(self.device) - began
        images = self._dense_images(counts, share=score.share)
        return self._rewarded(replace(score, seconds=seconds, cost=seconds / self.dense_seconds, images=images))

    def race_against(self, policies: Sequence[Sequence[int]]) -> None:
        """From now on stop scoring a policy that is clearly worse than the best of some, after a part of the search images.

        The bar does not move, so that the same counts still always get the same score: for a policy that is stopped the best
        one's, and the mean difference to it on the images that both have seen (see `Evaluator`).

        Args:
            policies: Kept channels of each decision, for instance those of the simple rules.

        Raises:
            UsageError: if the search part cannot be looked at in parts.
        """
        if not self._scorer.races:
            raise UsageError(
                "A race needs the images of the search part one by one and in memory (at most 2 GiB), not a function that "
                "evaluates nor more images than that; search without it."
            )
        self._baseline = None
        best, least = None, math.inf
        for counts in policies:
            score = self.score(counts)
            self.setup_images += score.images
            if score.loss < least:
                best, least = self._scorer.answers, score.loss
        self._baseline = best

    def _dense_images(self, counts: Sequence[int], *, finish: bool = False, share: float = 1.0) -> float:
        """Return what a score (or finishing) computes, in images through the dense network."""
        if self._scorer.size is None:
            return math.nan
        macs = share * self._scorer.size * self.cost.macs(counts)
        for part in self._pruner.macs(counts, finish=finish):
            macs += part
        return macs / self.cost.dense_macs

    @unchanged()
    def as_scored(self, counts: Sequence[int]) -> tuple[nn.Module, dict[str, IntArray]]:
        """Return a policy's network as it is scored, before any final reconstruction, and the units it keeps, by name."""
        refit = self._pruner.as_scored(counts)
        return self._pruner.network(refit), refit.kept

    @unchanged()
    def finish(self, counts: Sequence[int]) -> Finished:
        """Return a policy's network after the final reconstruction: sequential, on more calibration images and positions."""
        began = clock(self.device)
        return self._finished(self._pruner.best(counts), counts, began)

    @unchanged()
    def finish_kept(self, kept: Mapping[str, IntArray]) -> Finished:
        """Return the network that keeps exactly these channels (a policy file's), after the final reconstruction."""
        began = clock(self.device)
        return self._finished(self._pruner.best_of(kept), self._pruner.counts_of(kept), began)

    def _finished(self, refit: Refit, counts: Sequence[int], began: float) -> Finished:
        model = self._pruner.network(refit)
        search, report, right, drop = self._scorer.finished(model, counts)
        images = self._dense_images(counts, finish=True)
        seconds = clock(self.device) - began
        search = self._rewarded(replace(search, images=images, seconds=seconds, cost=seconds / self.dense_seconds))
        return Finished(model, refit.kept, search, report, right, drop)

    def rebuilt(self, kept: Mapping[str, IntArray], state: Mapping[str, Tensor]) -> nn.Module:
        """Return the small network with these channels (by group name) and weights, as `finish` made it (else UsageError)."""
        return self._pruner.rebuilt(kept, state)
