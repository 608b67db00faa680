"""Fine-tuning of the network in a run folder, and what of it the run's report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoprune.data import Preparation
from autoprune.errors import UsageError
from autoprune.finetuning._engine import make_engine
from autoprune.finetuning._features import boundaries
from autoprune.finetuning._progress import FinetuneProgress
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._run_data import RunData, Source, run_data
from autoprune.finetuning._scratch import reinitialise
from autoprune.finetuning._task import FinetuneFolder, Task, recipe_of, run_task
from autoprune.models import LoadedModel, untrained
from autoprune.registry import nearest, only_named_by
from autoprune.runs import (
    Rebuilt,
    RunFolder,
    check_device,
    finished_policy,
    load_dense,
    rebuild,
)
from autoprune.support.files import write_text_atomic
from autoprune.support.strict_json import write_json_atomic
from autoprune.support.tensors import load_safetensors
from autoprune.surgery import LOADER

FOLDER = "finetune"
_ORDER = ("distilled", "plain", "scratch-distilled", "scratch")


@only_named_by("model", "data", "divergence", "run_function")
def finetune_run(
    folder: RunFolder,
    asked: Mapping[str, Any],
    *,
    name: str | None = None,
    model: str | None = None,
    weights: str | None = None,
    data: str | None = None,
    labels: bool | None = None,
    divergence: str | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    download: bool = False,
    device: str | None = None,
    devices: int = 1,
    workers: int | None = None,
    preparation: Preparation | None = None,
    progress: FinetuneProgress | None = None,
    run_function: str | None = None,
) -> dict[str, Any]:
    """Fine-tune the network of a finished run, or of a folder that ``prune`` wrote; goes on where it was stopped.

    Args:
        folder: The folder; the result goes to ``finetune/NAME`` in it.
        asked: Settings of the `Recipe`; what is left out is taken from the fine-tuning that was begun, else the defaults.
        name: Name of the fine-tuning; None for what its kind is called ("distilled").
        model: Specification of the dense network; None for the run's.
        weights: Dense weights, for the teacher; None for the run's.
        data: Specification of the data; None for the run's.
        labels: Whether the labels of the training images are learned from; False for the dense network's outputs alone, None for
            what the search did, where there are labels.
        divergence: How outputs are compared, for a folder that ``prune`` wrote: a run says it.
        mean: Preprocessing; empty for the run's or the model's.
        std: Preprocessing; empty for the run's or the model's.
        download: Whether the data may be downloaded.
        device: Torch device; None for the run's.
        devices: How many of them, through Lightning Fabric if more than one.
        workers: Processes that decode images which are not in memory; None for a default.
        preparation: What is done to the pictures of an image folder; None for the run's, or what is usual.
        progress: Receives what happens.
        run_function: Runs the network on a batch, ``package.module:function`` or ``file.py:function``; None for the run's.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: if what is asked cannot be done; says why.
        AutopruneError: if something fails while it runs.
    """
    progress = progress or FinetuneProgress()
    policy = finished_policy(folder)
    config = folder.read_config() if folder.exists else None
    name = name if name is not None else Recipe.from_dict(asked).name
    target = FinetuneFolder(finetune_folder(folder, name))
    for path in (target.path.parent, target.path):
        if path.is_symlink():
            raise UsageError(f"'{path}' is a symbolic link, and nothing is written through one; remove it.")
    defaults = {"seed": (config.seed if config is not None else policy.seed) or 0}
    recipe = recipe_of(target.read_config(), asked, defaults)
    device = device or (config.device if config is not None else "cpu")
    check_device(device)
    engine = make_engine(device, devices)
    progress = progress if engine.rank == 0 else FinetuneProgress()
    if weights is None and model is None:
        weights = config.weights if config is not None else policy.model.get("weights")
    progress.stage("Loading the network and the data")
    dense = load_dense(policy.model, model=model, weights=weights if recipe.needs_teacher else None)
    if recipe.needs_teacher:
        _check_teacher(
            dense,
            weights,
            config.model_fingerprint if config is not None and config.data != "python" else None,
            progress,
        )
    rebuilt = rebuild(policy, load_safetensors(folder.model_path), dense)
    if data is None:
        data = config.data if config is not None else "digits" if dense.spec == "digits" else None
    if data is None or data == "python":
        raise UsageError(f"The data of '{folder.path}' are not known; give --data, for instance --data cifar10:ROOT.")
    stored = target.read_config() or {}
    labels = labels if labels is not None else stored.get("labels")
    source = Source(
        data=data,
        config=config,
        labels=labels,
        divergence=divergence,
        run=run_function,
        nested=rebuilt.nested,
        mean=mean,
        std=std,
        download=download,
        preparation=preparation,
    )
    task = _task(rebuilt, run_data(source, dense, recipe), recipe, progress)
    if not task.labels or "labels" in stored:
        task = replace(task, recorded={**task.recorded, "labels": task.labels})
    task = replace(task, workers=workers, batch_size=config.batch_size if config is not None else 64)
    found = run_task(task, recipe, target, name=name, engine=engine, progress=progress)
    if engine.rank == 0:
        write_text_atomic(target.path / LOADER, rebuilt.loader)
        refresh_report(folder)
    return found


def finetune_folder(folder: RunFolder, name: str) -> Path:
    """Return the folder of a fine-tuning (UsageError for a name that is no folder's)."""
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        raise UsageError(f"The name '{name}' must be letters, digits, '-', '_' or '.', and not begin with a dot.")
    return folder.path / FOLDER / name


def finetuned_results(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the results of all finished fine-tunings of a run, those with the usual names first."""
    found = [FinetuneFolder(path.parent).read_result() for path in folder.path.glob(f"{FOLDER}/*/result.json")]
    rank = {name: place for place, name in enumerate(_ORDER)}
    return sorted(found, key=lambda result: (rank.get(result["name"], len(rank)), result["name"]))


def finetuned_weights(folder: RunFolder, name: str | None = None) -> Path:
    """Return the weights of a finished fine-tuning.

    Args:
        folder: The run.
        name: Which; None for "distilled" if there is one, else the only one.

    Raises:
        UsageError: if there is none of that name, or no name was given and it is not clear which is meant.
    """
    names = [result["name"] for result in finetuned_results(folder)]
    if not names:
        raise UsageError(f"Nothing was fine-tuned in '{folder.path}'; do it with: autoprune finetune {folder.path}")
    if name is None and len(names) > 1 and _ORDER[0] not in names:
        raise UsageError(f"'{folder.path}' has several fine-tunings; say which: {', '.join(names)}.")
    if name is None:
        name = _ORDER[0] if _ORDER[0] in names else names[0]
    if name not in names:
        raise UsageError(
            f"There is no finished fine-tuning '{name}'.{nearest(name, names)} There are: {', '.join(names)}."
        )
    return FinetuneFolder(finetune_folder(folder, name)).model_path


def refresh_report(folder: RunFolder) -> None:
    """Bring the list of fine-tunings in a finished run's ``report.json`` up to date."""
    if folder.finished:
        report = folder.read_report()
        write_json_atomic(folder.report_path, {**report, "finetuned": finetuned_results(folder)})


def _check_teacher(dense: LoadedModel, weights: str | None, expected: str | None, progress: FinetuneProgress) -> None:
    """See that the teacher is the network that was pruned."""
    if expected is not None and dense.fingerprint != expected:
        raise UsageError(
            f"The weights of the dense network ({weights or dense.spec}) are not those of the run; "
            "give --weights, or --no-distill."
        )
    if untrained(dense.spec, weights):
        progress.stage(f"No --weights given: {dense.spec} has random weights and teaches nothing; use --no-distill")


def _task(rebuilt: Rebuilt, data: RunData, recipe: Recipe, progress: FinetuneProgress) -> Task:
    """Put together what is trained on what."""
    for note in data.notes:
        progress.stage(note)
    if recipe.from_scratch:
        reinitialise(rebuilt.model, seed=recipe.seed)
    params = sum(parameter.numel() for parameter in rebuilt.model.parameters())
    return Task(
        model=rebuilt.model,
        teacher=rebuilt.loaded.model if recipe.needs_teacher else None,
        train=data.train,
        augment=data.augment,
        search=data.search,
        report=data.report,
        macs=int(rebuilt.policy.achieved["macs"]),
        params=params,
        measure=data.measure,
        labels=data.labels,
        mean=data.mean,
        std=data.std,
        boundaries=boundaries(rebuilt.graph, rebuilt.policy.kept()) if recipe.feature_weight > 0 else (),
        recorded=data.recorded,
    )
