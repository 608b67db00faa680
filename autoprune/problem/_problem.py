"""The problem that a policy answers: a model, data, a budget, and a backend that prunes. It knows no agent."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autoprune.budget import Budget, Drop, paired_error
from autoprune.cost import MemoryCost
from autoprune.data import CALIBRATION, Expected, Images, adapt
from autoprune.errors import UsageError
from autoprune.evaluation import Answers, Evaluator, Part, RewardFn, Score, call_reward, check_reward, resolve_reward
from autoprune.graph import IntArray, PruningGraph, build_graph, prove
from autoprune.guard import unchanged
from autoprune.latency import LatencyCost, PricedGroups, Ratio, Target
from autoprune.models import check_finite
from autoprune.problem._data_notes import data_notes
from autoprune.problem._finished import Finished, half, right_of
from autoprune.problem._limits import Decided, MakeCost, decidable, decide, project_onto, whole_groups
from autoprune.problem._stopwatch import Stopwatch
from autoprune.reconstruct import FINISH_STEPS, Backend, Descent, Plan, Refit, affordable_rows, images_that_fit
from autoprune.registry import nearest
from autoprune.select import selections
from autoprune.support.answers import BoolArray
from autoprune.support.device import resolve_device
from autoprune.surgery import Policy, copy_model, fast_layout, folded, load_pruned, prune_model

ScoreKind = Literal["sequential", "cached"]
TURNS, FINISH_TURNS = 1, 5
"""How often a refit solves for outputs that a rectifier cuts off, in the search and in the end."""
REFIT_ON = 100, 2000
"""Images and positions of a refit in the search: on fewer, scores rank no worse (docs/search.md) and cost a third."""
PROBED = 256
"""Images that `Problem.sensitivities` looks at; on twice as many the first policies of ResNet-20 are no better."""
SHRINKAGE, DEPTH_TREND = 0.75, 1.0
"""Its power, and the last decision's weight over the first, as a logarithm: weights fitted to whole policies differ less than
those of groups pruned alone, and are smaller at the start, as what goes wrong there is repaired behind it (docs/search.md)."""
SCORES: tuple[ScoreKind, ...] = ("sequential", "cached")


class Problem:
    """A pruning problem: propose channel counts, get a score.

    Args:
        model: The trained dense network; moved to ``device`` and put into eval mode, otherwise untouched.
        example_input: A batch for it, shape (N, C, H, W); only shape and dtype matter.
        calibration: Images for the statistics: a tensor (N, C, H, W), a dataset of (image, label) or a loader.
        evaluate: The search part: a dataset, a loader, or ``model -> {"accuracy", "loss"}``.
        report: The report part, the same kinds; never looked at by `score`.
        budget: Share of the dense MACs, a `Budget`, or what is read as one ("macs=0.5,size=4MB"); None for no budget
            (R_FLOPs and R_Param trade size themselves).
        reward: A registered name, ``package.module:function``, or ``fn(score, dense, budget) -> float``.
        select: Which channels of a group stay.
        score: "sequential" refits layer by layer on the pruned network's own inputs; "cached" from the dense
            network's moments alone, cheaper and less like the finished network.
        include_residual: Whether groups that cross a residual join are decided too. They also are if the budget cannot
            be met without; `notes` then says so.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this; 0 for the smallest that is fast on the target.
        device: Torch device.
        seed: Seed of the calibration images and positions.
        batch_size: Images per forward pass when scoring.
        calibration_images: Calibration images of the statistics that the search chooses channels by.
        rows: Sampled output positions per layer in those; None for what a quarter of a dense pass pays for, at most 8000.
        refit_on: How many of the calibration images, and of their positions, the search's sequential refits see; None for all.
        finish_images: Calibration images of the finished network, for its channels and its refit, with five times as many rows.
        finish_steps: Steps of gradient descent that each of its blocks gets after the closed form; 0 for none.
        target: What will run the network: where the budget limits latency, that is measured there; ``memory`` is of its batch.
        profile: Where measured times are kept and continued; None to keep them in memory.
        graph: The model's proved graph, where it is known already.
        say: Told what is being measured.

    Attributes:
        graph: The proved coupling graph.
        decisions: The groups that a policy decides, in execution order.
        levels: For each decision the allowed counts.
        cost: Closed-form MACs and parameters.
        costs: What the budget limits, by kind, as functions of the counts.
        projector: Makes policies meet the budget.
        dense: The dense network's score on the search part. Where a drop of accuracy is the budget, every second image of it
            has no part in scores: those decide in the end (`Finished.drop`).
        dense_seconds: Time of one pass of the dense network over the search part (by medians), the unit of
            `Score.cost`.
        setup_images: What preparing the search computed, in images through the dense network: the statistics of the calibration
            images, second moments included, and one pass over the search images (four where its time is not known from one).
        notes: Sentences that the user should read before the search.

    Raises:
        UsageError: for an impossible budget, unknown names, empty data, images that do not fit, NaN weights.
    """

    @unchanged()  # the global random numbers
    def __init__(
        self,
        model: nn.Module,
        example_input: Tensor,
        *,
        calibration: Images,
        evaluate: Part,
        report: Part | None = None,
        budget: Budget | float | str | None = 0.5,
        reward: str | RewardFn = "accuracy",
        select: str = "obs",
        score: str = "sequential",
        include_residual: bool = False,
        min_keep: float = 0.1,
        round_to: int = 1,
        device: str | torch.device = "cpu",
        seed: int = 0,
        batch_size: int = 64,
        calibration_images: int = 400,
        rows: int | None = None,
        refit_on: tuple[int, int] | None = REFIT_ON,
        finish_images: int = 2000,
        finish_steps: int = FINISH_STEPS,
        target: Target | None = None,
        profile: Path | None = None,
        graph: PruningGraph | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if score not in SCORES:
            raise UsageError(f"Unknown score '{score}'.{nearest(score, list(SCORES))} Known: {', '.join(SCORES)}.")
        self._score_kind = score
        self._selection = selections.get(select)()
        self.reward: RewardFn = resolve_reward(reward)
        self.budget = _as_budget(budget)
        check_reward(reward, self.budget)
        self.device = resolve_device(device)
        check_finite(model.state_dict(), weights="of the model")
        self.model = copy_model(model).to(self.device).eval()  # run within `unchanged` only: networks are cut from it
        example_input = example_input.to(self.device)
        self._halved = self.budget.max_drop is not None
        expected = Expected(tuple(example_input.shape[1:]), example_input.dtype)
        options: dict[str, Any] = {"device": self.device, "batch_size": batch_size, "expected": expected}
        self._search = Evaluator(evaluate, name="search", **options)
        self._report = None if report is None else Evaluator(report, name="report", **options)
        most = max(finish_images, calibration_images)
        given = adapt(calibration, "calibration", expected, labelled=False, most=CALIBRATION)
        images = given.drawn(most, seed)
        self._images = images
        self.graph = (
            graph if graph is not None else prove(self.model, build_graph(self.model, example_input), example_input)
        )
        self.model = folded(self.model, self.graph.folded)
        self.notes: tuple[str, ...] = whole_groups(self.graph)
        target = target or Target(device=str(self.device))
        self._stopwatch: Stopwatch | None = None
        if "latency" in self.budget.kinds:
            self._stopwatch = Stopwatch(self.model, self.graph, example_input, target, path=profile, say=say)
        decided = self._decide(target, include_residual=include_residual, min_keep=min_keep, round_to=round_to)
        self.decisions, self.levels, self.cost = decided.decisions, decided.levels, decided.cost
        self.costs, self.projector = decided.costs, decided.projector
        self.notes += decided.notes
        self._plan = Plan(self.graph, self.model)
        self._refits = self.graph.dynamic_batch and self._plan.computes(self.model, images[:5].to(self.device))
        self._rows = rows or affordable_rows(self.graph, self._search.size or 2000)
        self._seed = seed
        self._finish_backend: Backend | None = None
        self._finish_images = finish_images
        self._descent = Descent(finish_steps, seed=seed) if finish_steps else None
        if not self._refits:
            self._selection = selections.get("magnitude")()
            calibration_images = finish_images = self._finish_images = self.graph.layers[0].in_shape[0]
            same_batch = images[: len(example_input)].to(self.device)
            fixed = not self.graph.dynamic_batch or self._plan.computes(self.model, same_batch)
            why = (
                "The network was traced for one fixed batch size"
                if fixed
                else "The traced network's answers to calibration images are not the model's own"
            )
            self.notes += (f"{why}, so nothing is refitted and channels are chosen by magnitude.",)
        fit = images_that_fit(self.graph)
        if fit < min(calibration_images, len(images)):
            self.notes += (f"Only {fit} calibration images are used, so that their activations fit into memory.",)
        self._backend = self._make_backend(images[:calibration_images], self._rows, TURNS, refit_on=refit_on)
        self._dense_answers: dict[str, Answers | None] = {}
        self._rival: Answers | None = None
        passes = [self._evaluated(self._search, self.model, self._sizes, refer=True)]
        seconds = self._search.seconds
        if math.isnan(seconds):  # the first pass pays for warming up and, for lazy data, for decoding
            passes += [self._evaluated(self._search, self.model, self._sizes) for _ in range(3)]
            seconds = median(score.seconds for score in passes[1:])
        self.dense_seconds = max(seconds, 1e-9)
        known = (math.nan, math.nan) if self._search.answers is None else (0.0, float(self._search.size or 0))
        self.dense = replace(passes[0], seconds=self.dense_seconds, cost=1.0, drop_se=known[0], images=known[1])
        self.dense = self._rewarded(self.dense)
        statistics = self._backend.setup_macs / self.cost.dense_macs if self._refits else 0.0
        self.setup_images = statistics + len(passes) * (self._search.size or 0)
        self._dense_answers["search"] = self._search.answers
        self._dense_report: Score | None = None
        _ = self.dense_report  # what is wrong with its images is to be said now
        self.notes += data_notes(given, images, self._search, self._report)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(group.size for group in self.decisions)

    def _decide(self, target: Target, *, include_residual: bool, min_keep: float, round_to: int) -> Decided:
        """Settle what is decided; where latency counts, profile, and then once more around the budget."""
        stopwatch = self._stopwatch
        if round_to == 0:
            if stopwatch is None:
                raise UsageError(
                    "Channel counts are to be what is fast on the target, but the budget limits no latency."
                )
            chosen = decidable(self.graph, include_residual=include_residual)
            round_to = stopwatch.multiple(chosen, min_keep=min_keep)
            self.notes += (f"On the target ({stopwatch.target}) multiples of {round_to} channels are fast.",)
        others: dict[str, MakeCost] = {"memory": lambda chosen, _: MemoryCost(self.graph, chosen, batch=target.batch)}
        if stopwatch is not None:
            others["latency"] = stopwatch.cost

        def decided() -> Decided:
            return decide(
                self.model,
                self.graph,
                self.budget,
                include_residual=include_residual,
                min_keep=min_keep,
                round_to=round_to,
                others=others,
            )

        found = decided()
        if stopwatch is None:
            return found

        def look() -> PricedGroups:
            now = decided()
            return now.decisions, cast(LatencyCost, now.costs["latency"]), now.projector

        stopwatch.refine_around(look)
        return decided()

    @unchanged()
    def timed(self, network: nn.Module) -> Ratio | None:
        """Return what a finished network takes on the target, timed against the dense one; None where latency does not count.

        Raises:
            AutopruneError: if the machine is too busy for it to be known.
        """
        return None if self._stopwatch is None else self._stopwatch.measure(network)

    def _make_backend(self, images: Tensor, rows: int, turns: int, **others: Any) -> Backend:
        return Backend(
            self._plan,
            self.decisions,
            fast_layout(images.to(self.device), self.device),
            selection=self._selection,
            rows=rows,
            seed=self._seed,
            relu_iterations=turns,
            **others,
        )

    def _evaluated(
        self,
        evaluator: Evaluator,
        model: nn.Module,
        counts: Sequence[int],
        baseline: Answers | None = None,
        *,
        refer: bool = False,
    ) -> Score:
        began = time.perf_counter()
        with unchanged(model) if model is self.model else nullcontext():
            accuracy, loss = evaluator.refer(model) if refer else evaluator(model, baseline)
            seconds = time.perf_counter() - began
        dense, own, distance = self._dense_answers.get(evaluator.name), evaluator.answers, evaluator.distance
        share = 1.0 if own is None or not evaluator.size else len(own.seen) / evaluator.size
        if own is not None and self._halved and evaluator is self._search:
            own = half(own, 0)
            accuracy, loss = float(own.right.double().mean()), float(own.loss.double().mean())
            distance = distance if refer else float(own.distance.double().mean())
        return Score(
            accuracy,
            loss,
            self.cost.macs(counts),
            self.cost.params(counts),
            seconds=seconds,
            distance=distance,
            drop_se=math.nan if dense is None or own is None else paired_error(dense.of(own.seen).right, own.right),
            share=share,
            costs={kind: float(cost(counts)) for kind, cost in self.costs.items() if kind not in ("macs", "params")},
        )

    def _rewarded(self, score: Score) -> Score:
        return replace(score, reward=call_reward(self.reward, score, self.dense, self.budget))

    def at(self, budget: Budget) -> Problem:
        """Return the same problem with another budget of the same kinds; nothing is measured or traced again.

        Raises:
            UsageError: if a kind of cost is limited that this problem does not know.
        """
        other = copy.copy(self)
        other.budget = budget
        other.projector = project_onto(budget, self.costs, self.levels)
        return other

    @unchanged()
    def prune(self, counts: Sequence[int]) -> nn.Module:
        """Return the small network of a policy as the search sees it.

        Args:
            counts: Channels to keep, one per decision.
        """
        return self._surgery(self._refit(self._backend, counts))

    def errors(self) -> list[npt.NDArray[np.float64]] | None:
        """Return what the statistics say of every decision: the error of its readers, once refitted, for each count kept.

        In shares of the readers' mean squared output, from the calibration images' moments; no network is run. Shapes
        (size + 1,), 0 for the whole group. None where nothing is refitted.
        """
        return [self._backend.errors(group) for group in self.decisions] if self._refits else None

    @unchanged()
    def sensitivities(self) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return how much a unit of `errors` matters in every decision, up to a common factor, shape (decisions,).

        Seen on up to `PROBED` search images (calibration images where those are not held) as the distance of the network's
        answers from its own with that one group pruned, from which follows what is expected where all groups are (`SHRINKAGE`,
        `DEPTH_TREND`); no label is read and no policy scored. At most one dense pass over the search images is spent, and what it
        was, in images through the dense network, is returned too. None where nothing is refitted or the network has no blocks.
        """
        if not self._refits:
            return None
        images = None if self._halved else self._search.some(PROBED)
        images = self._images[-PROBED:] if images is None else images
        probed = self._backend.probe(
            fast_layout(images.to(self.device), self.device), most=self._search.size or len(self._images)
        )
        if probed is None:
            return None
        errors, seen = probed
        alone = np.where(errors > 0, seen.distances / np.maximum(errors, 1e-9), 0.0)
        return alone**SHRINKAGE * np.exp(DEPTH_TREND * np.linspace(-0.5, 0.5, len(alone))), seen.images

    def run(self, model: nn.Module) -> tuple[float, float]:
        """Run a network over the search part and return (accuracy, loss)."""
        with unchanged(model):
            return self._search(model)

    def _refit(self, backend: Backend, counts: Sequence[int]) -> Refit:
        if not self._refits:
            return backend.slice_only(counts)
        return backend.cached(counts) if self._score_kind == "cached" else backend.sequential(counts)

    def _surgery(self, refit: Refit) -> nn.Module:
        return prune_model(self.model, self.graph, refit.kept, tensors=refit.tensors)

    @unchanged()
    def score(self, counts: Sequence[int]) -> Score:
        """Prune, refit, run on the search part; the same counts always get the same score (but for its time).

        Args:
            counts: Channels to keep, one per decision.
        """
        began = time.perf_counter()
        score = self._evaluated(self._search, self.prune(counts), counts, self._rival)
        seconds = time.perf_counter() - began
        images = self._equivalents(counts, share=score.share)
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
        if not self._search.races:
            raise UsageError(
                "A race needs the images of the search part one by one and in memory (at most 2 GiB), not a function that "
                "evaluates nor more images than that; search without it."
            )
        self._rival = None
        best, least = None, math.inf
        for counts in policies:
            score = self.score(counts)
            self.setup_images += score.images
            if score.loss < least:
                best, least = self._search.answers, score.loss
        self._rival = best

    def _equivalents(self, counts: Sequence[int], *, finish: bool = False, share: float = 1.0) -> float:
        """Return what a score (or finishing) computes, in images through the dense network."""
        if self._search.size is None:
            return math.nan
        backend = self._best_backend() if finish else self._backend
        macs = share * self._search.size * self.cost.macs(counts)
        if self._refits:
            widths = [inputs(counts) for _, inputs, _ in self.cost.layer_forms]
            macs += backend.refit_macs(widths, forward=finish or self._score_kind == "sequential")
            macs += 3 * backend.descent_images * self.cost.macs(counts)  # forward, and back to inputs and weights
        return macs / self.cost.dense_macs

    @unchanged()
    def finish(self, counts: Sequence[int]) -> Finished:
        """Return a policy's network after the best refit: sequential, on more calibration images and positions."""
        return self._finished(self._best_refit(counts), counts)

    @unchanged()
    def finish_kept(self, kept: Mapping[str, IntArray]) -> Finished:
        """Return the network that keeps exactly these channels (a policy file's), after the best refit."""
        backend = self._best_backend()
        refit = backend.refit_kept(kept) if self._refits else Refit(dict(kept), {})
        counts = [len(kept[group.name]) if group.name in kept else group.size for group in self.decisions]
        return self._finished(refit, counts)

    def rebuilt(self, kept: Mapping[str, IntArray], state: Mapping[str, Tensor]) -> nn.Module:
        """Return the small network with these channels (by group name) and weights, as `finish` made it (else UsageError)."""
        policy = Policy(Policy.groups_of([group for group in self.graph.groups if group.name in kept], kept))
        return load_pruned(self.model, self.graph, policy, state).eval()

    def _best_backend(self) -> Backend:
        if self._finish_backend is None:
            images, rows = self._images[: self._finish_images], 5 * self._rows
            self._finish_backend = self._make_backend(images, rows, FINISH_TURNS, descent=self._descent)
        return self._finish_backend

    def _best_refit(self, counts: Sequence[int]) -> Refit:
        backend = self._best_backend()
        return backend.sequential(counts) if self._refits else backend.slice_only(counts)

    def _finished(self, refit: Refit, counts: Sequence[int]) -> Finished:
        model = self._surgery(refit)
        _ = self.dense_report  # so that the report's answers are compared image by image
        search, images = self._evaluated(self._search, model, counts), self._equivalents(counts, finish=True)
        search = self._rewarded(replace(search, images=images, cost=search.seconds / self.dense_seconds))
        answers, drop = self._search.answers, None
        if answers is not None and self._halved:
            dense = cast(Answers, self._dense_answers["search"])
            drop = Drop.between(right_of(half(dense, 1)), right_of(half(answers, 1)))
            answers = half(answers, 0)
        report = None
        if self._report is not None:
            report = self._evaluated(self._report, model, counts)
            answers = self._report.answers
        return Finished(model, refit.kept, search, report, None if answers is None else right_of(answers), drop)

    @property
    def dense_right(self) -> BoolArray | None:
        """Which images the dense network gets right, as `Finished.right`."""
        part = "search" if self.dense_report is None else "report"
        answers = self._dense_answers[part]
        if answers is not None and self._halved and part == "search":
            answers = half(answers, 0)
        return None if answers is None else right_of(answers)

    @property
    def report_images(self) -> int | None:
        """Number of images that the report's accuracy is of (the search part's if there is no report part); None if not known."""
        return (self._report or self._search).size

    @property
    @unchanged()
    def dense_report(self) -> Score | None:
        """The dense network's score on the report part, None if there is none."""
        if self._dense_report is None and self._report is not None:
            score = self._evaluated(self._report, self.model, self._sizes, refer=True)
            self._dense_report = score if self._report.answers is None else replace(score, drop_se=0.0)
            self._dense_answers["report"] = self._report.answers
        return self._dense_report


def _as_budget(budget: Budget | float | str | None) -> Budget:
    if budget is None:
        return Budget(1.0, "at-most")
    return budget if isinstance(budget, Budget) else Budget(budget)
