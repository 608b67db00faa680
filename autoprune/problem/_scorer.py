"""What networks answer, next to what the dense one answers: the fourth part of a `Problem`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from autoprune.budget import AnyDrop, drop_between, paired_error
from autoprune.evaluation import Answers, Evaluator, Score
from autoprune.model_guard import ModelInputs, unchanged
from autoprune.problem._budgeted import Budgeted
from autoprune.problem._finished import half
from autoprune.problem._pruner import PROBED
from autoprune.support.answers import ByImage
from autoprune.support.device import clock


class Scorer:
    """Runs networks over the search part (and the report part), and remembers what the dense network answered.

    Args:
        budgeted: The dense network and what policies cost. Where a drop of accuracy is the budget, every second image of the
            search part has no part in scores: those decide in the end (`Finished.drop`).
        search: The search part.
        report: The report part, never looked at by scores; None if there is none.

    Attributes:
        dense: The dense network's score on the search part, without a reward.
        dense_seconds: Time of one pass of the dense network over the search part (by medians), the unit of `Score.cost`.
        setup_images: Images that the dense network was run on: one pass, or four where its time is not known from one.
    """

    @unchanged()
    def __init__(self, budgeted: Budgeted, search: Evaluator, report: Evaluator | None = None) -> None:
        self._cost, self._costs = budgeted.decided.cost, budgeted.decided.costs
        self._model, self._sizes = budgeted.traced.model, budgeted.sizes
        self._device = budgeted.traced.device
        self._halved = budgeted.budget.max_drop is not None
        self._search, self._report = search, report
        self._dense_answers: dict[str, Answers | None] = {}
        passes = [self._evaluated(search, self._model, self._sizes, refer=True)]
        seconds = search.seconds
        if math.isnan(seconds):  # the first pass pays for warming up and, for lazy data, for decoding
            passes += [self._evaluated(search, self._model, self._sizes) for _ in range(3)]
            seconds = median(score.seconds for score in passes[1:])
        self.dense_seconds = max(seconds, 1e-9)
        known = (math.nan if search.answers is None else 0.0, math.nan if search.size is None else float(search.size))
        self.dense = replace(passes[0], seconds=self.dense_seconds, cost=1.0, drop_se=known[0], images=known[1])
        self.setup_images = len(passes) * (search.size or 0)
        self._dense_answers["search"] = search.answers
        self._dense_report: Score | None = None

    @property
    def size(self) -> int | None:
        """Number of search images; None where a function evaluates."""
        return self._search.size

    @property
    def answers(self) -> Answers | None:
        """What the network scored last answered on the search part; None where a function evaluates."""
        return self._search.answers

    @property
    def races(self) -> bool:
        """Whether the search part can be looked at in parts."""
        return self._search.races

    def some(self) -> Tensor | ModelInputs | None:
        """Return some of the search images that policies are scored on, shape (N, C, H, W); None where they are not held."""
        return None if self._halved else self._search.some(PROBED)

    def run(self, model: nn.Module) -> tuple[float, float]:
        """Run a network over the search part and return (accuracy, loss)."""
        with unchanged(model):
            return self._search(model)

    def score(self, model: nn.Module, counts: Sequence[int], baseline: Answers | None = None) -> Score:
        """Return a pruned network's score on the search part, without a reward.

        Args:
            model: The network.
            counts: The channels that it keeps, one per decision.
            baseline: Answers of a policy; a network that is clearly worse is stopped after a part of the images.
        """
        return self._evaluated(self._search, model, counts, baseline)

    def _evaluated(
        self,
        evaluator: Evaluator,
        model: nn.Module,
        counts: Sequence[int],
        baseline: Answers | None = None,
        *,
        refer: bool = False,
    ) -> Score:
        began = clock(self._device)
        with unchanged(model) if model is self._model else nullcontext():
            accuracy, loss = evaluator.refer(model) if refer else evaluator(model, baseline)
            seconds = clock(self._device) - began
        dense, own, distance = self._dense_answers.get(evaluator.name), evaluator.answers, evaluator.distance
        share = 1.0 if own is None or not evaluator.size else len(own.seen) / evaluator.size
        if own is not None and self._halved and evaluator is self._search:
            own = half(own, 0)
            accuracy, loss = evaluator.total(own), float(own.loss.double().mean())
            distance = distance if refer else float(own.distance.double().mean())
        drop_se = math.nan
        if dense is not None and own is not None:
            drop_se = paired_error(evaluator.each(dense.of(own.seen)), evaluator.each(own))
        return Score(
            accuracy,
            loss,
            self._cost.macs(counts),
            self._cost.params(counts),
            seconds=seconds,
            distance=distance,
            drop_se=drop_se,
            metric=evaluator.metric,
            share=share,
            costs={kind: float(cost(counts)) for kind, cost in self._costs.items() if kind not in ("macs", "params")},
        )

    def finished(
        self, model: nn.Module, counts: Sequence[int]
    ) -> tuple[Score, Score | None, ByImage | None, AnyDrop | None]:
        """Run a finished network over both parts.

        Returns:
            Its score on the search part (without a reward) and on the report part, which images it got right and what it lost on
            the images that decide about a drop: the fields of `Finished`.
        """
        _ = self.dense_report  # so that the report's answers are compared image by image
        search = self._evaluated(self._search, model, counts)
        answers, drop = self._search.answers, None
        if answers is not None and self._halved:
            dense = cast(Answers, self._dense_answers["search"])
            search_part = self._search
            drop = drop_between(
                _by_image(search_part, half(dense, 1)),
                _by_image(search_part, half(answers, 1)),
                maximize=search_part.metric.maximize,
            )
            answers = half(answers, 0)
        report, shown = None, self._search
        if self._report is not None:
            shown = self._report
            report = self._evaluated(self._report, model, counts)
            answers = self._report.answers
        return search, report, None if answers is None else _by_image(shown, answers), drop

    @property
    def dense_right(self) -> ByImage | None:
        """Which images the dense network gets right, as `Finished.right`."""
        part = "search" if self.dense_report is None else "report"
        answers = self._dense_answers[part]
        if answers is not None and self._halved and part == "search":
            answers = half(answers, 0)
        shown = self._search if part == "search" else cast(Evaluator, self._report)
        return None if answers is None else _by_image(shown, answers)

    @property
    def report_images(self) -> int | None:
        """Number of images that the report's accuracy is of (the search part's if there is no report part); None if not known."""
        return (self._report or self._search).size

    @property
    @unchanged()
    def dense_report(self) -> Score | None:
        """The dense network's score on the report part, None if there is none."""
        if self._dense_report is None and self._report is not None:
            score = self._evaluated(self._report, self._model, self._sizes, refer=True)
            self._dense_report = score if self._report.answers is None else replace(score, drop_se=0.0)
            self._dense_answers["report"] = self._report.answers
        return self._dense_report


def _by_image(evaluator: Evaluator, answers: Answers) -> ByImage:
    """Return which images were right, or numbers whose mean is the metric, shape (n,)."""
    found = evaluator.each(answers).cpu()
    return found.numpy() if found.dtype == torch.bool else found.double().numpy()
