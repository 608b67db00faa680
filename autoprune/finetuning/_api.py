"""``autoprune.finetune``: the same from Python, for a run folder or for a network and data in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from autoprune.data import Images
from autoprune.errors import UsageError
from autoprune.evaluation import DivergenceFn, Metric, Part, Run, Task
from autoprune.finetuning._engine import make_engine
from autoprune.finetuning._passed import task_passed
from autoprune.finetuning._progress import FinetuneProgress
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._run import finetune_folder, finetune_run, finetuned_weights
from autoprune.finetuning._task import FinetuneFolder, run_task
from autoprune.model_guard import unchanged
from autoprune.runs import RunFolder, check_device, rebuild_run
from autoprune.support.jsonl import read_jsonl


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """What a fine-tuning gave.

    Attributes:
        model: The network with the weights of the best epoch, an ordinary module in eval mode on the CPU.
        result: The numbers, as in ``result.json``; accuracies in [0, 1].
        history: One record per epoch, as in ``history.jsonl``.
    """

    model: nn.Module
    result: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]


def finetune(
    target: nn.Module | str | Path,
    *,
    train: Images | None = None,
    evaluate: Part | None = None,
    report: Part | None = None,
    teacher: nn.Module | None = None,
    example_input: Any = None,
    labels: bool | None = None,
    maximize: str | None = None,
    minimize_metric: str | None = None,
    divergence: str | DivergenceFn | None = None,
    run: Run | None = None,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    devices: int = 1,
    progress: FinetuneProgress | None = None,
) -> FinetuneResult:
    """Fine-tune a pruned network, by default distilling from the dense one.

    Without labels the network learns the dense network's outputs alone, of any nesting, by the divergence that a search compares
    them by, and is measured by it (or by the agreement of class scores). So it is too where no loss is known: with targets, for
    which a metric is named. With a loss of one's own an own trainer takes the network as it is (docs/own_trainer.md).

    Args:
        target: The folder of a finished run, whose data and dense network are then used; or a network, which is not changed.
        train: Images to train on, for a network, with labels or alone; of a loader those that its sampler draws. Augmentation is
            then the data set's own affair, unless the recipe names one.
        evaluate: What the best epoch is chosen by: a data set, a loader, or ``model -> {"accuracy", "loss"}``.
        report: What the result is measured on, once; without, on ``evaluate``, which flatters.
        teacher: The dense network; without, there is no distillation.
        example_input: A batch for the network, where inputs are no single tensors, and where ``run`` runs batches.
        labels: Whether labels are read; None for where there are some.
        maximize: What is measured, the more the better, see `autoprune.search`; by default the accuracy, or what suits outputs.
        minimize_metric: Likewise, the less the better.
        divergence: How outputs are compared with the dense network's, see `autoprune.search`.
        run: ``run(model, batch)`` where a batch's form does not say how the network is called.
        recipe: The settings.
        epochs: Passes over the training images, instead of the recipe's.
        name: Name of the fine-tuning.
        out: Folder for checkpoints and result, for a network; None keeps nothing. A stopped training there is continued.
        device: Torch device; None for the run's, or the CPU.
        devices: How many of them, through Lightning Fabric if more than one.
        progress: Receives what happens.

    Raises:
        UsageError: if what is asked cannot be done; says why.
        AutopruneError: if something fails while it runs.
    """
    progress = progress or FinetuneProgress()
    asked = {} if recipe is None else recipe.to_dict()
    if epochs is not None:
        asked["epochs"] = epochs
    if not isinstance(target, nn.Module):
        given = (train, evaluate, report, teacher, out, example_input, maximize, minimize_metric, divergence, run)
        if any(value is not None for value in given):
            raise UsageError(
                f"The run '{target}' has its own data, dense network, metric and folder; give these only with a network."
            )
        options: dict[str, Any] = {"labels": labels, "device": device, "devices": devices}
        return _of_run(RunFolder(Path(target)), asked, name=name, progress=progress, **options)
    if train is None or evaluate is None:
        raise UsageError("Fine-tuning a network needs images: give train=... and evaluate=....")
    settings = Recipe.from_dict(asked)
    if teacher is None:
        settings = Recipe.from_dict({**settings.to_dict(), "distill": 0.0, "feature_weight": 0.0})
    elif settings.feature_weight > 0:
        raise UsageError("Feature matching needs the policy that says which channels stayed: fine-tune a run folder.")
    device = device or "cpu"
    check_device(device)
    engine = make_engine(device, devices)
    progress = progress if engine.rank == 0 else FinetuneProgress()
    measure = Task(labels, Metric.asked(maximize, minimize_metric), divergence, run)
    with (
        unchanged(*(target,) if teacher is None else (target, teacher)),
        tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as path,
    ):
        task = task_passed(
            target,
            train,
            evaluate,
            report,
            teacher=teacher,
            recipe=settings,
            measure=measure,
            example_input=example_input,
        )
        folder = FinetuneFolder(Path(path))
        found = run_task(task, settings, folder, name=name or settings.name, engine=engine, progress=progress)
        history = tuple(read_jsonl(folder.history_path))
    return FinetuneResult(task.model.cpu().eval(), found, history)


def _of_run(
    folder: RunFolder,
    asked: Mapping[str, Any],
    *,
    name: str | None,
    progress: FinetuneProgress,
    **options: Any,
) -> FinetuneResult:
    found = finetune_run(folder, asked, name=name, progress=progress, **options)
    model = rebuild_run(folder, weights=finetuned_weights(folder, found["name"])).model
    history = read_jsonl(FinetuneFolder(finetune_folder(folder, found["name"])).history_path)
    return FinetuneResult(model, found, tuple(history))
