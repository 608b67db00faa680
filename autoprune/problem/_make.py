"""A problem with all its parts, from a model, data and a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.budget import Budget
from autoprune.data import CALIBRATION, Expected, Images, adapt, is_function, moved
from autoprune.decisions import CHANNELS, Bounds, Ignore, restrictions_of
from autoprune.evaluation import Evaluator, Part, RewardFn, Task, check_reward, resolve_reward
from autoprune.graph import PruningGraph
from autoprune.latency import Target
from autoprune.model_guard import ModelInputs, check_inputs, unchanged
from autoprune.problem._budgeted import as_budget, under_budget
from autoprune.problem._data_notes import data_notes
from autoprune.problem._problem import Problem
from autoprune.problem._pruner import CALIBRATION_IMAGES, FINISH_BYTES, FINISH_IMAGES, REFIT_ON, Pruner, check_score
from autoprune.problem._scorer import Scorer
from autoprune.problem._traced import Traced, trace
from autoprune.reconstruct import FINISH_STEPS, affordable_rows
from autoprune.runs import check_run, classes_of
from autoprune.select import selections
from autoprune.support.device import clock, resolve_device


@unchanged()  # the global random numbers
def make_problem(
    model: nn.Module,
    example_input: Any,
    *,
    calibration: Images,
    evaluate: Part,
    report: Part | None = None,
    budget: Budget | float | str | None = 0.5,
    reward: str | RewardFn | None = None,
    task: Task | None = None,
    select: str = "obs",
    score: str = "sequential",
    include_residual: bool = False,
    decide: Sequence[str] = (CHANNELS,),
    ignore: Ignore | None = None,
    bounds: Bounds | None = None,
    min_keep: float = 0.1,
    round_to: int = 1,
    device: str | torch.device = "cpu",
    seed: int = 0,
    batch_size: int = 64,
    calibration_images: int = CALIBRATION_IMAGES,
    rows: int | None = None,
    refit_on: tuple[int, int] | None = REFIT_ON,
    finish_images: int | None = None,
    finish_steps: int = FINISH_STEPS,
    target: Target | None = None,
    profile: Path | None = None,
    graph: PruningGraph | None = None,
    part: str | Sequence[str] = (),
    say: Callable[[str], None] | None = None,
    measured: Callable[[int, int], None] | None = None,
    step: Callable[[str, float], None] | None = None,
) -> Problem:
    """Trace and prove a network, find what a budget leaves to decide, collect statistics, and score the dense network.

    The parts can be had alone, too: `trace`, `under_budget`, `Pruner`, `Scorer`.

    Args:
        model: The trained dense network; not touched.
        example_input: A batch for it, shape (N, C, H, W) or of any nesting, see `autoprune.model_guard.as_inputs`; only shapes
            and types matter. With a task that runs batches: what its function takes.
        calibration: Images for the statistics: a tensor (N, C, H, W), a dataset of (image, label) or a loader.
        evaluate: The search part: a dataset, a loader, or ``model -> {"accuracy", "loss"}``. Images alone will do: networks are
            then compared with the dense network's outputs.
        report: The report part, the same kinds; never looked at by `Problem.score`.
        budget: Share of the dense MACs, a `Budget`, or what is read as one ("macs=0.5,size=4MB"); None for no budget
            (R_FLOPs and R_Param trade size themselves).
        reward: A registered name, ``package.module:function``, or ``fn(score, dense, budget) -> float``; None for the accuracy,
            without labels for minus the divergence from the dense network's outputs.
        task: What networks are judged by; by default the accuracy where the search images have labels.
        select: Which channels of a group stay.
        score: "sequential" or "cached", see `Pruner`.
        include_residual: Whether groups that cross a residual join are decided too. They also are if the budget cannot
            be met without; `Problem.notes` then says so.
        decide: Kinds of decisions, see `under_budget`.
        ignore: Modules whose channels all stay: patterns over their paths, modules, or a predicate of (path, module).
        bounds: The share of the channels that stays of others: by pattern a number, or the least and the most; or a function of
            (path, module) that returns one of these, or None.
        min_keep: The least share of a group's channels that stays.
        round_to: Kept counts are multiples of this; 0 for the smallest that is fast on the target.
        device: Torch device.
        seed: Seed of the calibration images and positions.
        batch_size: Images per forward pass when scoring.
        calibration_images: Calibration images of the statistics that the search chooses channels by.
        rows: Sampled output positions per layer in those; None for what a quarter of a dense pass pays for, at most 8000.
        refit_on: How many of the calibration images, and of their positions, the search's sequential refits see; None for all.
        finish_images: Calibration images of the finished network's refit; None for as many as there are search images, at least
            256 and at most 2,048 (large ones: 1,024).
        finish_steps: Steps of gradient descent, all its layers together, after the closed form; 0 for none.
        target: What will run the network: where the budget limits latency, that is measured there; ``memory`` is of its batch.
        profile: Where measured times are kept and continued; None to keep them in memory.
        graph: The model's proved graph, where it is known already.
        part: Paths of the parts that alone are pruned ("backbone"), on what they get while the network runs; none for all of it.
        say: Told what is being measured.
        measured: Told how many networks of a profile are measured, of how many.
        step: Told what is computed beside scores later, and how many dense passes that takes at most.

    Raises:
        UsageError: for an impossible budget, unknown names, empty data, images that do not fit, NaN weights.
    """
    began = clock(resolve_device(device))
    check_score(score)  # what can be refused at once is
    selections.get(select)
    limits = as_budget(budget)
    task, evaluate, expected = _task(task or Task(labels=None), model, example_input, evaluate, batch_size)
    reward = reward or ("accuracy" if task.labels else "divergence")
    resolve_reward(reward)
    check_reward(reward, limits)
    where = resolve_device(device)
    options: dict[str, Any] = {"device": where, "batch_size": batch_size, "expected": expected, "task": task}
    search = Evaluator(evaluate, name="search", **options)
    held_out = None if report is None else Evaluator(report, name="report", **options)
    given = adapt(calibration, "calibration", expected, labelled=False if task.labels else None, most=CALIBRATION)
    if finish_images is None:
        most = FINISH_IMAGES[1]
        if isinstance(example_input, Tensor) and len(example_input):  # large images are not held in such numbers
            most = min(most, max(most // 2, FINISH_BYTES // max(1, example_input[:1].nbytes)))
        finish_images = min(max(search.size or most, FINISH_IMAGES[0]), most)
    drawn = given.drawn(max(finish_images, calibration_images), seed)
    restrictions = restrictions_of(model, ignore, bounds)
    traced = trace(model, example_input, device=where, graph=graph, part=part, run=task.run)
    budgeted = under_budget(
        traced,
        limits,
        include_residual=include_residual,
        decide=decide,
        restrictions=restrictions,
        min_keep=min_keep,
        round_to=round_to,
        target=target,
        profile=profile,
        say=say,
        measured=measured,
    )
    images, notes = _calibration(traced, drawn, batch_size)
    pruner = Pruner(
        budgeted,
        images,
        select=select,
        score=score,
        seed=seed,
        calibration_images=calibration_images,
        rows=rows or affordable_rows(traced.graph, search.size or 2000),
        refit_on=refit_on,
        finish_images=finish_images,
        finish_steps=finish_steps,
    )
    scorer = Scorer(budgeted, search, held_out)
    _ = scorer.dense_report  # what is wrong with its images is to be said now
    notes += data_notes(given, images, search, held_out)
    return Problem(budgeted, pruner, scorer, reward=reward, notes=notes, seconds=clock(where) - began, step=step)


def _calibration(
    traced: Traced, drawn: Tensor | ModelInputs | list[Any], batch_size: int
) -> tuple[Tensor | ModelInputs, tuple[str, ...]]:
    """Return what is traced is called with, given calibration images, or batches for a function that runs them, and notes."""
    if not isinstance(drawn, list) and not traced.part:
        return drawn, ()
    if not isinstance(drawn, list):
        drawn = [drawn[start : start + batch_size] for start in range(0, len(drawn), batch_size)]
    left = iter(drawn)
    images = traced.captured(moved(batch, traced.device) for batch in left)
    if not (unused := len(list(left))):
        return images, ()
    what = "the part is" if traced.part else "the network is"
    return images, (
        f"Only {len(drawn) - unused} of {len(drawn)} batches of calibration images are used, so that what {what} called with "
        "fits into memory.",
    )


def _task(task: Task, model: nn.Module, example: Any, part: Part, batch_size: int) -> tuple[Task, Part, Expected]:
    """Return the task, which then says whether labels are read, the search part that it was seen from, and what is expected."""
    classes = None
    if isinstance(example, list) and task.run is None:
        check_inputs(example, model)  # single images are no batch
    if task.run is not None or not isinstance(example, Tensor) or (task.labels is None and not is_function(part)):
        outputs = None
        with suppress(Exception), unchanged(model):  # what goes wrong says the trace
            outputs = check_run(model, example, task.run)
        if outputs is not None:
            task, classes = task.suited(outputs), classes_of(outputs)
    nested = task.run is not None or not isinstance(example, Tensor)
    given: dict[str, Any] = {"model": model, "runs": task.run is not None, "batch": batch_size}
    given |= {"targets": task.reads_targets}
    expected = Expected.of(example, classes if nested else None, **given)
    task, part = task.seen_in(part, expected)
    return task, part, expected
