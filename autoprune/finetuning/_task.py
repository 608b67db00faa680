"""One fine-tuning on disk: configuration, checkpoints, history, weights, result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from autoprune.errors import UsageError
from autoprune.evaluation import ACCURACY, Evaluator, Part
from autoprune.evaluation import Task as Measured
from autoprune.finetuning._batches import NestedTraining, TrainingBatches
from autoprune.finetuning._checkpoint import Checkpoint, restore
from autoprune.finetuning._engine import Engine
from autoprune.finetuning._features import Boundary
from autoprune.finetuning._images import TrainingImages
from autoprune.finetuning._progress import FinetuneProgress
from autoprune.finetuning._recipe import Recipe
from autoprune.finetuning._trainer import Trainer
from autoprune.runs import Lock
from autoprune.support.files import make_folder, refuse_links, remove_temporaries, write_text_atomic
from autoprune.support.jsonl import append_jsonl
from autoprune.support.reading import reading
from autoprune.support.strict_json import read_json, write_json_atomic
from autoprune.support.tensors import load_safetensors, save_safetensors_atomic
from autoprune.support.text import short
from autoprune.surgery import strides_kept

FINETUNE_VERSION = 1


@dataclass(frozen=True, eq=False)
class Task:
    """What is fine-tuned, on what.

    Attributes:
        model: The network; trained in place.
        teacher: The dense network, None without distillation.
        train: Images to train on, items (image, label), or inputs of any nesting.
        augment: "crop-flip", "shift" or "none".
        search: What the best epoch is chosen by.
        report: What the result is measured on, once; None for the search part.
        macs: Multiply-adds of one image.
        params: Number of parameters.
        measure: What networks are measured by, completed, and how a batch is run.
        labels: Whether the labels of the training images are learned from; else the dense network's outputs alone.
        mean: Of the images' normalisation, where it is known.
        std: Likewise.
        boundaries: Where features can be matched.
        batch_size: Images per forward pass when measuring.
        workers: Processes that decode images; None for a default.
        recorded: What the configuration records beside the recipe: data, fingerprints.
    """

    model: nn.Module
    teacher: nn.Module | None
    train: Dataset[Any] | NestedTraining
    augment: str
    search: Part
    report: Part | None
    macs: int
    params: int
    measure: Measured = field(default_factory=Measured)
    labels: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    boundaries: tuple[Boundary, ...] = ()
    batch_size: int = 64
    workers: int | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def evaluator(self, name: str, engine: Engine) -> Evaluator:
        """Return what measures networks on the search part, or on the report part if there is one.

        Args:
            name: "search" or "report".
            engine: Where.
        """
        part = self.search if name == "search" or self.report is None else self.report
        return Evaluator(part, name=name, device=engine.device, batch_size=self.batch_size, task=self.measure)

    def refer(self, evaluator: Evaluator) -> None:
        """Measure the dense network first where others are compared with it: not by class labels or a function."""
        if self.teacher is not None and not evaluator.by_function and self.measured_by_outputs:
            evaluator.refer(self.teacher)

    @property
    def measured_by_outputs(self) -> bool:
        """Whether the loss of a network is the divergence of its outputs, not the cross-entropy with labels."""
        return not self.measure.labels or (self.measure.metric or ACCURACY).name != ACCURACY.name


class FinetuneFolder:
    """Where one fine-tuning is kept.

    Args:
        path: The folder. It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.json"
        self.history_path = path / "history.jsonl"
        self.model_path = path / "model.safetensors"
        self.result_path = path / "result.json"

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return self.result_path.is_file()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder if need be and hold its lock, for a ``with`` statement; what a killed process left goes.

        Raises:
            AutopruneError: if another process holds it, or the folder cannot be written.
            UsageError: if a file in it is a symbolic link.
        """
        make_folder(self.path)
        with Lock(self.path / ".lock", option="--name"):
            refuse_links(self.path)
            remove_temporaries(self.path)
            yield

    def read_config(self) -> dict[str, Any] | None:
        """Return the configuration, or None if nothing was begun here.

        Raises:
            UsageError: if it is damaged or of another version.
        """
        if not self.config_path.is_file():
            return None
        values = read_json(self.config_path, "fine-tuning's configuration")
        version = values.get("version") if isinstance(values, dict) else None
        if version != FINETUNE_VERSION:
            raise UsageError(
                f"The fine-tuning in '{self.path}' has version {version!r}, but this autoprune reads version "
                f"{FINETUNE_VERSION}; give another --name."
            )
        return dict(values)

    def read_result(self) -> dict[str, Any]:
        """Return the result (UsageError if it is not there or damaged)."""
        values = read_json(self.result_path, "result of the fine-tuning")
        if not isinstance(values, dict):
            raise UsageError(f"The file '{self.result_path}' does not hold a JSON object.")
        return values


def recipe_of(stored: Mapping[str, Any] | None, asked: Mapping[str, Any], defaults: Mapping[str, Any]) -> Recipe:
    """Return the recipe: what is asked, else what was begun, else the defaults given."""
    with reading("The fine-tuning's configuration", "give another --name"):
        begun = {} if stored is None else Recipe.from_dict(stored["recipe"]).to_dict()
    return Recipe.from_dict({**defaults, **begun, **asked})


def run_task(
    task: Task, recipe: Recipe, folder: FinetuneFolder, *, name: str, engine: Engine, progress: FinetuneProgress
) -> dict[str, Any]:
    """Fine-tune, or go on, or just find the result; ``task.model`` has the best epoch's weights afterwards.

    Returns:
        The result, as in ``result.json``.

    Raises:
        UsageError: if the folder holds another fine-tuning; says what differs. If the processes of several devices do not see
            the same folder.
        AutopruneError: if another process writes the folder, or training fails.
    """
    wanted = {"version": FINETUNE_VERSION, "name": name, "recipe": recipe.to_dict(), **task.recorded}
    if not engine.same(_progress_of(folder)):
        raise UsageError(
            f"The processes see different contents in the folder '{folder.path}', but the checkpoint that the first one writes "
            "is what all of them continue from; on several hosts give a folder on a file system that they share (--out)."
        )
    _refuse_differences(folder, wanted)
    if folder.finished:
        found = folder.read_result()
        progress.stage(f"The fine-tuning '{name}' is finished: all {found['epochs_done']} epochs were done before")
        restore(task.model, load_safetensors(folder.model_path))
        return found
    first = engine.rank == 0
    with folder.lock() if first else nullcontext(), strides_kept(task.model):
        trainer = _trainer(task, recipe, folder, engine, wanted, progress)
        try:
            _train(trainer, task, recipe, folder, name=name, engine=engine, progress=progress)
        finally:
            trainer.close()
        found = _result(trainer, task, recipe, name, engine)
        if first:
            save_safetensors_atomic(folder.model_path, trainer.best_state)
            write_json_atomic(folder.result_path, found)
        engine.barrier()
    progress.finished(found)
    return found


def _progress_of(folder: FinetuneFolder) -> float:
    """Return how far the folder is: 0 for nothing, -1 for finished, else one more than the epochs of its checkpoint."""
    if folder.finished:
        return -1.0
    checkpoint = Checkpoint.load(folder.path)
    return (0.0 if checkpoint is None else float(checkpoint.epoch)) + float(folder.read_config() is not None)


def _trainer(
    task: Task,
    recipe: Recipe,
    folder: FinetuneFolder,
    engine: Engine,
    wanted: Mapping[str, Any],
    progress: FinetuneProgress,
) -> Trainer:
    """Return the trainer, where an earlier session left it."""
    images = _images(task, recipe)
    stored = folder.read_config()
    precision = stored["precision"] if stored is not None else None if recipe.precision == "auto" else recipe.precision
    if precision is None:
        progress.stage("Timing a training step in bf16 and in fp32")
    evaluator = task.evaluator("search", engine)
    trainer = Trainer(
        task.model,
        task.teacher,
        images,
        evaluator,
        recipe,
        engine=engine,
        measure=task.measure,
        labels=task.labels,
        boundaries=task.boundaries,
        precision=precision,
    )
    task.refer(evaluator)
    if stored is None and engine.rank == 0:
        write_json_atomic(folder.config_path, {**wanted, "precision": trainer.precision, "augment": task.augment})
    engine.barrier()
    checkpoint = Checkpoint.load(folder.path)
    if checkpoint is not None:
        trainer.resume(checkpoint)
    progress.measured_by(evaluator.metric)
    progress.begin(
        str(wanted["name"]),
        recipe.epochs,
        0 if checkpoint is None else checkpoint.epoch,
        images.steps * images.batch_size,
    )
    return trainer


def _images(task: Task, recipe: Recipe) -> TrainingImages | TrainingBatches:
    """Return the batches that are trained on.

    Raises:
        UsageError: if the recipe cannot be followed with them.
    """
    if not isinstance(task.train, NestedTraining):
        return TrainingImages(
            task.train,
            kind=task.augment,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            mean=task.mean,
            std=task.std,
            workers=task.workers,
        )
    if recipe.augment not in ("auto", "none"):
        raise UsageError(
            f"The augmentation '{recipe.augment}' is for single images, but inputs are nested, or a function runs them; augment "
            "in the data set, and leave it out here."
        )
    if recipe.accumulate > 1 and task.measure.run is not None:
        raise UsageError(
            f"The value of accumulate is {recipe.accumulate}, but a batch that a function runs cannot be cut; give smaller ones."
        )
    return TrainingBatches(task.train, batch_size=recipe.batch_size, seed=recipe.seed)


def _train(
    trainer: Trainer,
    task: Task,
    recipe: Recipe,
    folder: FinetuneFolder,
    *,
    name: str,
    engine: Engine,
    progress: FinetuneProgress,
) -> None:
    """Do the epochs that are left."""
    if engine.rank == 0:
        write_text_atomic(folder.history_path, "")
        for record in trainer.history:
            append_jsonl(folder.history_path, record)
    while not trainer.over:
        record = trainer.epoch(progress)
        if engine.rank == 0:
            trainer.checkpoint().save(folder.path)
            append_jsonl(folder.history_path, record)
        engine.barrier()
        progress.epoch(record)


def _result(trainer: Trainer, task: Task, recipe: Recipe, name: str, engine: Engine) -> dict[str, Any]:
    """Measure the best epoch's network on the report part, the only time it is looked at."""
    restore(task.model, trainer.best_state)
    evaluator = task.evaluator("report", engine)
    task.refer(evaluator)
    accuracy, loss = evaluator(task.model)
    best = trainer.best
    return {
        "version": FINETUNE_VERSION,
        "name": name,
        "epochs": recipe.epochs,
        "epochs_done": len(trainer.history),
        "best_epoch": best["epoch"],
        "distilled": task.teacher is not None and recipe.needs_teacher,
        "from_scratch": recipe.from_scratch,
        "metric": evaluator.metric.to_dict(),
        "accuracy": accuracy,
        "accuracy_se": evaluator.error(accuracy),
        "loss": loss if math.isfinite(loss) else None,
        "search_accuracy": best["search_accuracy"],
        "macs": task.macs,
        "params": task.params,
        "seed": recipe.seed,
        "wall_s": round(trainer.wall_s, 3),
        "settings": {**recipe.to_dict(), "lr": recipe.rate, "precision": trainer.precision, "augment": task.augment},
    }


def _refuse_differences(folder: FinetuneFolder, wanted: Mapping[str, Any]) -> None:
    stored = folder.read_config()
    if stored is None:
        return
    flat, asked = ({**values, **values["recipe"]} for values in (stored, wanted))
    differences = [
        f"{key.replace('_', '-')}: {short(flat.get(key))} begun, {short(value)} now"
        for key, value in asked.items()
        if key not in ("recipe", "precision", "augment", "data") and flat.get(key) != value
    ]
    differences += [
        f"{key}: {stored['recipe'][key]} begun, {wanted['recipe'][key]} now"
        for key in ("precision", "augment")
        if stored["recipe"][key] != wanted["recipe"][key]
    ]
    if differences:
        raise UsageError(
            f"The fine-tuning in '{folder.path}' was begun differently ({'; '.join(differences)}); "
            "give the same options or another --name."
        )
