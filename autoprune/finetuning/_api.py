"""``autoprune.finetune``: the same from Python, for a run folder or for a network and data in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from autoprune.cost import counted_macs
from autoprune.data import Expected, Held, Images, Items, adapt, as_dataset, is_function
from autoprune.errors import UsageError
from autoprune.evaluation import Part
from autoprune.finetuning._engine import make_engine
from autoprune.finetuning._progress import FinetuneProgress
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._run import finetune_folder, finetune_run, finetuned_weights
from autoprune.finetuning._scratch import reinitialise
from autoprune.finetuning._task import FinetuneFolder, Task, run_task
from autoprune.model_guard import eval_mode, unchanged
from autoprune.runs import RunFolder, check_device, check_output, rebuild_run
from autoprune.support.fingerprint import fingerprint
from autoprune.support.jsonl import read_jsonl
from autoprune.surgery import copy_model


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
    recipe: Recipe | None = None,
    epochs: int | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    devices: int = 1,
    progress: FinetuneProgress | None = None,
) -> FinetuneResult:
    """Fine-tune a pruned network, by default distilling from the dense one.

    Args:
        target: The folder of a finished run, whose data and dense network are then used; or a network, which is not changed.
        train: Labelled images to train on, for a network; of a loader those that its sampler draws. Augmentation is
            then the data set's own affair, unless the recipe names one.
        evaluate: What the best epoch is chosen by: a data set, a loader, or ``model -> {"accuracy", "loss"}``.
        report: What the result is measured on, once; without, on ``evaluate``, which flatters.
        teacher: The dense network; without, there is no distillation.
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
        if train is not None or evaluate is not None or report is not None or teacher is not None or out is not None:
            raise UsageError(
                f"The run '{target}' has its own data, dense network and folder; give these only with a network."
            )
        return _of_run(RunFolder(Path(target)), asked, name=name, device=device, devices=devices, progress=progress)
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
    data = as_dataset(train, "train")
    with (
        unchanged(*(target,) if teacher is None else (target, teacher)),
        tempfile.TemporaryDirectory() if out is None else nullcontext(str(out)) as path,
    ):
        task = _task(target, data, evaluate, report, teacher if settings.needs_teacher else None, settings)
        folder = FinetuneFolder(Path(path))
        found = run_task(task, settings, folder, name=name or settings.name, engine=engine, progress=progress)
        history = tuple(read_jsonl(folder.history_path))
    return FinetuneResult(task.model.cpu().eval(), found, history)


def _of_run(
    folder: RunFolder,
    asked: Mapping[str, Any],
    *,
    name: str | None,
    device: str | None,
    devices: int,
    progress: FinetuneProgress,
) -> FinetuneResult:
    found = finetune_run(folder, asked, name=name, device=device, devices=devices, progress=progress)
    model = rebuild_run(folder, weights=finetuned_weights(folder, found["name"])).model
    history = read_jsonl(FinetuneFolder(finetune_folder(folder, found["name"])).history_path)
    return FinetuneResult(model, found, tuple(history))


def _task(
    model: nn.Module, data: Held | Items, evaluate: Part, report: Part | None, teacher: nn.Module | None, recipe: Recipe
) -> Task:
    """Put together what is trained on what; the caller's networks are copied."""
    network = copy_model(model).cpu()
    example = data[0][0][None]
    expected = Expected(tuple(example.shape[1:]), example.dtype, check_output(network, example))
    with eval_mode(network):
        macs = counted_macs(network, example)
    start = fingerprint((name, value) for name, value in network.state_dict().items() if isinstance(value, Tensor))
    if recipe.from_scratch:
        reinitialise(network, seed=recipe.seed)
    return Task(
        model=network,
        teacher=None if teacher is None else copy_model(teacher).eval(),
        train=data,
        augment="none" if recipe.augment == "auto" else recipe.augment,
        search=evaluate if is_function(evaluate) else adapt(evaluate, "evaluate", expected),
        report=report if report is None or is_function(report) else adapt(report, "report", expected),
        macs=macs,
        params=sum(parameter.numel() for parameter in network.parameters()),
        recorded={"data": "python", "images": len(data), "weights_fingerprint": start},
    )
