"""What the network of a run is fine-tuned and measured on: the run's data, with labels or without, and what it is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch.utils.data import Dataset, TensorDataset

from autoprune.data import Expected, Held, Items, Preparation
from autoprune.errors import UsageError
from autoprune.evaluation import ACCURACY, Part
from autoprune.evaluation import Task as Measured
from autoprune.finetuning._batches import NestedTraining, has_labels
from autoprune.finetuning._images import augmentation, training_data
from autoprune.finetuning._recipe import Recipe
from autoprune.models import LoadedModel
from autoprune.runs import RunConfig, check_run, classes_of, load_parts, nested_inputs, prepared_as, task_of


@dataclass(frozen=True, eq=False)
class RunData:
    """The data of a fine-tuning.

    Attributes:
        train: What is trained on.
        search: What the best epoch is chosen by.
        report: What the result is measured on.
        measure: What networks are measured by, completed.
        labels: Whether the labels of the training images are learned from.
        augment: How images are augmented.
        notes: What the user should know, in sentences.
        mean: Of the images' normalisation, where it is known.
        std: Likewise.
        recorded: Name and fingerprint.
    """

    train: Dataset[Any] | NestedTraining
    search: Part
    report: Part | None
    measure: Measured
    labels: bool
    augment: str
    notes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    recorded: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where data come from, as it was asked for.

    Attributes:
        data: Specification.
        config: The run's configuration; None for a folder of ``prune``.
        labels: Whether the labels of the training images are learned from; None for where there are some.
        divergence: How outputs are compared where there is no run that says it.
        run: ``module:function`` that runs a batch; None for the run's.
        nested: Whether the network is called with anything but one tensor, or by a function.
        mean: Preprocessing; empty for the run's or the model's.
        std: Likewise.
        download: Whether the data may be downloaded.
        preparation: What is done to the pictures of an image folder; None for the run's, or what is usual.
    """

    data: str
    config: RunConfig | None = None
    labels: bool | None = None
    divergence: str | None = None
    run: str | None = None
    nested: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    download: bool = False
    preparation: Preparation | None = None

    @property
    def measure(self) -> Measured:
        """What networks are to be measured by, as far as it is known.

        Raises:
            UsageError: if a function that runs a batch cannot be imported, or there is a divergence beside the run's.
        """
        config, found = self.config, task_of(self.config, self.run)
        if config is None:
            return replace(found, labels=False if self.labels is False else None, divergence=self.divergence)
        if self.divergence is not None and self.divergence != config.divergence:
            raise UsageError(
                f"The run compares outputs by {config.divergence or 'what suits their shapes'}, not by {self.divergence}; leave "
                "--divergence out, it is for folders that prune wrote."
            )
        return found


def run_data(source: Source, dense: LoadedModel, recipe: Recipe) -> RunData:
    """Load the data of a fine-tuning, and see whether labels are learned from.

    Args:
        source: Where they come from.
        dense: The dense network.
        recipe: The recipe.

    Raises:
        UsageError: if the data are missing, do not fit, or there is nothing to learn from.
    """
    measure = source.measure
    if source.nested or measure.run is not None or measure.reads_targets:
        found = _nested(source, dense, measure)
    else:
        found = _images(source, dense, measure, recipe)
    if not found.labels:
        metric = found.measure.metric or ACCURACY
        check_teaching(recipe, found.measure)
        note = f"The network learns the dense network's outputs, no labels; it is measured by {metric.name}"
        if found.measure.labels and metric.name != ACCURACY.name:
            note = (
                f"The network learns the dense network's outputs, as no loss is known for {metric.name}; for a loss of your own "
                "take its network into your own trainer (docs/own_trainer.md)"
            )
        found = replace(found, notes=(*found.notes, note))
    return found


def check_teaching(recipe: Recipe, measure: Measured) -> None:
    """Refuse a training without the dense network where labels are not learned from.

    Raises:
        UsageError: if that is asked for.
    """
    if recipe.distill > 0:
        return
    name = (measure.metric or ACCURACY).name
    why = f"No loss is known for {name}" if measure.labels and name != ACCURACY.name else "No labels are read"
    raise UsageError(
        f"{why}, so that there is nothing to learn from but the dense network's outputs: leave --no-distill out (distill 0), or "
        "train with a loss of your own (docs/own_trainer.md)."
    )


def _images(source: Source, dense: LoadedModel, measure: Measured, recipe: Recipe) -> RunData:
    """Return single images: augmented, and with class labels or none."""
    config = source.config
    outputs = None if config is not None else check_run(dense.model, dense.example_input())
    measure = measure if outputs is None else measure.suited(outputs)
    preparation = source.preparation if config is None else prepared_as(source.preparation, config, source.data)
    images = load_parts(
        source.data,
        dense,
        mean=source.mean or (config.mean if config is not None else ()),
        std=source.std or (config.std if config is not None else ()),
        download=source.download,
        preparation=preparation,
        labels=measure.labels,
    )
    if outputs is not None:
        measure = replace(measure, labels=images.labelled).completed(outputs)
    _check_same(source, images.fingerprint)
    train, note = training_data(images)
    labels = bool(measure.labels) and source.labels is not False and _labelled(train)
    if source.labels and not labels:
        raise UsageError(f"--labels was given, but the training images of '{source.data}' have none; leave it out.")
    return RunData(
        train=train if labels else _unlabelled(train, ours=bool(images.mean)),
        search=images.search,
        report=images.report,
        measure=measure,
        labels=labels,
        augment=augmentation(images.name, recipe.augment),
        notes=(note,) if note else (),
        mean=images.mean,
        std=images.std,
        recorded={"data": images.name, "data_fingerprint": images.fingerprint},
    )


def _nested(source: Source, dense: LoadedModel, measure: Measured) -> RunData:
    """Return inputs of any nesting with targets of any, batches that a function runs, or functions that evaluate."""
    config = source.config
    inputs, raw = nested_inputs(
        dense,
        source.data,
        measure,
        {},
        batch_size=64 if config is None else config.batch_size,
        download=source.download,
        mean=source.mean or (config.mean if config is not None else ()),
        std=source.std or (config.std if config is not None else ()),
    )
    _check_same(source, str(inputs.recorded["data_fingerprint"]))
    measure = inputs.task
    train: Any = raw.get("train")
    notes: tuple[str, ...] = ()
    if train is None:
        train = raw["calibration"]
        notes = ("The data have no training part: training on the calibration part",)
    if isinstance(train, Iterator):  # calibration has read it
        train = inputs.calibration
    runs = measure.run is not None
    classes = classes_of(check_run(dense.model, inputs.example_input, measure.run))
    expected = Expected.of(None if runs else inputs.example_input, classes, model=dense.model, runs=runs, targets=True)
    learns = bool(measure.labels) and (measure.metric or ACCURACY).name == ACCURACY.name and source.labels is not False
    labels = learns and classes is not None and has_labels(train, expected)
    return RunData(
        train=NestedTraining(train, replace(expected, targets=not labels), labels),
        search=inputs.search,
        report=inputs.report,
        measure=measure,
        labels=labels,
        augment="none",
        notes=notes,
        recorded={"data": source.data, "data_fingerprint": inputs.recorded["data_fingerprint"]},
    )


def _check_same(source: Source, fingerprint: str) -> None:
    """See that data of the run's name are those of the run."""
    config = source.config
    if config is not None and source.data == config.data and fingerprint != config.data_fingerprint:
        raise UsageError(f"The data '{source.data}' are not those of the run; give --data.")


def _labelled(train: Dataset[Any]) -> bool:
    if isinstance(train, Items):
        return train.labelled
    return not isinstance(train, TensorDataset) or len(train.tensors) > 1


def _unlabelled(train: Dataset[Any], *, ours: bool) -> Dataset[Any]:
    """Return the same images, of which no label is read.

    Args:
        train: The images.
        ours: Whether one of our own readers made them: then they are returned as it gave them, so that augmentation knows what
            they are; their labels are there, but are not learned from.
    """
    if ours and isinstance(train, Items):
        return cast(Dataset[Any], train.data)
    return train.unlabelled() if isinstance(train, Held | Items) else train
