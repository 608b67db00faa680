"""What a search works on: a dense model and its images, loaded from specifications and checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.data import (
    CALIBRATION,
    Adapted,
    Data,
    Expected,
    Nested,
    Preparation,
    RunBatch,
    Stream,
    adapt,
    examples_in,
    fingerprint_parts,
    is_function,
    is_own,
    load_data,
    load_raw,
)
from autoprune.errors import UsageError
from autoprune.evaluation import Evaluate, Outputs, Run, Task, outputs_of, run_by
from autoprune.model_guard import as_inputs, eval_mode, run_once, unchanged
from autoprune.models import LoadedModel, load_model
from autoprune.runs._checks import check_device, check_run, classes_of, example_batch
from autoprune.runs._config import RunConfig
from autoprune.support.device import resolve_device


@dataclass(frozen=True)
class Inputs:
    """A dense model with its three disjoint data parts.

    Attributes:
        model: The dense model.
        example_input: One batch, shape (B, C, H, W), or of any nesting.
        calibration: Images that statistics are collected on.
        search: What policies are scored on.
        report: What finished networks are reported on; None if there is no such part.
        model_spec: How a policy file names the model.
        reward: The reward function, if it was passed as one; else None.
        recorded: What the run configuration records: fingerprints, preprocessing, and what is measured.
        task: What networks are judged by.
        promised: What the weights' publisher says of their accuracy, see `autoprune.models.LoadedModel`.
    """

    model: nn.Module
    example_input: Any
    calibration: Adapted
    search: Adapted | Evaluate
    report: Adapted | Evaluate | None
    model_spec: Mapping[str, Any]
    reward: Callable[..., float] | None = None
    recorded: Mapping[str, Any] = field(default_factory=dict)
    task: Task = field(default_factory=Task)
    promised: tuple[str, float] | None = None


def load_parts(
    data: str,
    loaded: LoadedModel,
    *,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    num_classes: int | None = None,
    download: bool = False,
    preparation: Preparation | None = None,
    labels: bool | None = True,
) -> Data:
    """Load data for a model: images of its size, preprocessed as it wants them unless other statistics are given.

    Args:
        data: Specification, as for ``--data``.
        loaded: The model.
        mean: Subtracted per channel; empty for the model's.
        std: Divided by per channel; empty for the model's.
        num_classes: How many classes the labels may name; None to leave that unchecked.
        download: Whether the data may be downloaded.
        preparation: What is done to the pictures of an image folder; None for what is usual, or the weights' own.
        labels: Whether there must be labels; False reads none, None those that there are.

    Raises:
        UsageError: if the data are missing, damaged or do not fit.
    """
    statistics = (mean or loaded.mean, std or loaded.std)
    return load_data(
        data,
        mean=statistics[0],
        std=statistics[1],
        input_shape=loaded.input_shape,
        num_classes=num_classes,
        transform=loaded.transform if statistics == (loaded.mean, loaded.std) else None,
        download=download,
        preparation=preparation,
        labels=labels,
    )


def prepared_as(asked: Preparation | None, config: RunConfig, data: str) -> Preparation | None:
    """Return what is done to pictures: what is asked, else what was in a run, if the data are the run's."""
    if asked is not None and asked.asked:
        return asked
    return config.preparation if data == config.data else None


def load_inputs(
    model: str,
    data: str | None,
    *,
    weights: str | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    input_shape: tuple[int, ...] = (),
    download: bool = False,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
    preparation: Preparation | None = None,
    task: Task | None = None,
    batch_size: int = 64,
) -> Inputs:
    """Load a model and data and check that they fit.

    Args:
        model: Specification, as for ``--model``.
        data: Specification, as for ``--data``; None is refused once the model is known to be one.
        weights: Weights file or enum name; None for the model's own.
        mean: Subtracted per channel; empty for the model's.
        std: Divided by per channel; empty for the model's.
        input_shape: Shape (C, H, W) of one image; empty for the model's.
        download: Whether the data may be downloaded.
        device: Torch device the search will use; checked only.
        say: Told in one line what takes time, and what is done to images.
        preparation: What is done to the pictures of an image folder; None for what is usual, or the weights' own.
        task: What networks are judged by.
        batch_size: Items that are put together for a task that runs batches.

    Raises:
        UsageError: if anything is missing, damaged or does not fit; says what and what to do.
    """
    check_device(device)
    loaded = load_model(model, weights=weights, input_size=input_shape or None, say=say)
    if data is None:
        raise UsageError(f"No data were given for the model '{model}'; say which, for instance --data cifar10:ROOT.")
    options: dict[str, Any] = {"mean": mean, "std": std, "download": download, "preparation": preparation}
    return inputs_for(loaded, data, weights=weights, say=say, task=task, batch_size=batch_size, **options)


def inputs_for(
    loaded: LoadedModel,
    data: str,
    *,
    weights: str | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    download: bool = False,
    say: Callable[[str], None] | None = None,
    preparation: Preparation | None = None,
    task: Task | None = None,
    batch_size: int = 64,
) -> Inputs:
    """Load data for a model that is there, and check that they fit; see `load_inputs`.

    Args:
        loaded: The model.
        data: Specification, as for ``--data``.
        weights: What the model's weights were loaded from, for the policy file.
        mean: See there, as for the rest.
        std: See there.
        download: See there.
        say: See there.
        preparation: See there.
        task: See there.
        batch_size: See there.

    Raises:
        UsageError: if anything is missing, damaged or does not fit; says what and what to do.
    """
    task = task or Task()
    named = {"name": loaded.spec, "weights": weights}
    refused: UsageError | None = None
    if task.run is None and not task.reads_targets:
        try:
            options: dict[str, Any] = {"mean": mean, "std": std, "download": download, "preparation": preparation}
            found = _image_inputs(loaded, data, task, named, say=say, **options)
            if found is not None:
                return found
        except UsageError as error:
            if not is_own(data):
                raise
            refused = error
    statistics: dict[str, Any] = {"mean": mean, "std": std}
    inputs, _ = nested_inputs(
        loaded, data, task, named, batch_size=batch_size, refused=refused, download=download, **statistics
    )
    return inputs


def nested_inputs(
    loaded: LoadedModel,
    data: str,
    task: Task,
    named: Mapping[str, Any],
    *,
    batch_size: int,
    refused: UsageError | None = None,
    **options: Any,
) -> tuple[Inputs, dict[str, Any]]:
    """Return a network and data with nested inputs, targets, functions that evaluate, or batches that a function runs.

    Args:
        loaded: The network.
        data: Specification, as for ``--data``.
        task: What networks are judged by.
        named: What the policy file says of the network.
        batch_size: Items that are put together.
        refused: Why the data are no images, each one tensor; raised where there are no several inputs either.
        **options: ``mean``, ``std`` and ``download``, as for `load_inputs`.

    Returns:
        Both, and the parts as the data gave them: calibration, search and, where there are any, report and train.

    Raises:
        UsageError: if something does not fit; says what.
    """
    parts = load_raw(data, input_shape=loaded.input_shape, **options)
    example = None if task.run is not None else _example_of(loaded, parts)
    if refused is not None and example is None:
        raise refused
    return _nested_inputs(loaded, parts, task, named, example, batch_size=batch_size), parts


def _image_inputs(
    loaded: LoadedModel,
    data: str,
    task: Task,
    named: Mapping[str, Any],
    *,
    say: Callable[[str], None] | None,
    **options: Any,
) -> Inputs | None:
    """Return a network and images, one tensor each, with class labels or none; None where targets are no class numbers."""
    outputs = check_run(loaded.model, loaded.example_input())
    task = task.suited(outputs)
    if task.reads_targets:
        return None
    classes = classes_of(outputs)
    parts = load_parts(data, loaded, num_classes=classes, labels=task.labels, **options)
    task = replace(task, labels=parts.labelled).completed(outputs)
    if say is not None:
        say(f"Parts: {parts.description}")
        say(f"Images: {_prepared(parts, loaded, options)}")
    expected = Expected(tuple(loaded.input_shape), torch.float32, classes)
    calibration = adapt(parts.calibration, "calibration", expected, labelled=False if task.labels else None)
    example = example_batch(calibration)
    check_run(loaded.model, example)
    labelled = True if task.labels else None
    return Inputs(
        model=loaded.model,
        example_input=example,
        calibration=calibration,
        search=adapt(parts.search, "search", expected, labelled=labelled),
        report=adapt(parts.report, "report", expected, labelled=labelled),
        model_spec={**named, "input_shape": list(loaded.input_shape), "num_classes": classes, "buildable": True},
        recorded={
            "model_fingerprint": loaded.fingerprint,
            "data_fingerprint": parts.fingerprint,
            "mean": tuple(parts.mean) or options["mean"],  # a data factory's own are not known, but it was told these
            "std": tuple(parts.std) or options["std"],
            "input_shape": tuple(loaded.input_shape),
            "prepared": parts.prepared,
            **task.recorded,
        },
        task=task,
        promised=loaded.promised,
    )


def _prepared(parts: Data, loaded: LoadedModel, asked: Mapping[str, Any]) -> str:
    """Return what an image is when the network gets it: its size, and what was done to it."""
    said = [parts.prepared] if parts.prepared else []
    said.append(f"size {'x'.join(map(str, loaded.input_shape))}")
    for name in ("mean", "std"):
        values = tuple(getattr(parts, name)) or asked[name]
        said += [f"{name} {', '.join(f'{value:g}' for value in values)}"] if values else []
    return "; ".join(said)


def _example_of(loaded: LoadedModel, parts: dict[str, Any]) -> Any:
    """Return what a network of several inputs is called with, told by its data; None for one tensor of images."""
    found, parts["calibration"] = examples_in(parts["calibration"], loaded.model)
    for example in found:
        with suppress(UsageError):
            check_run(loaded.model, example)
            return example
    return None


def _nested_inputs(
    loaded: LoadedModel,
    parts: Mapping[str, Any],
    task: Task,
    named: Mapping[str, Any],
    example: Any,
    *,
    batch_size: int,
) -> Inputs:
    """Return a network and data with nested inputs, targets, functions, or batches that a function runs (the first is the example).

    Args:
        loaded: The network.
        parts: The data.
        task: What networks are judged by.
        named: What the policy file says of the network.
        example: A batch for the network; None for one tensor of images, or where a function runs batches.
        batch_size: Items that are put together.
    """
    runs = task.run is not None
    given: dict[str, Any] = {"model": loaded.model, "runs": runs, "batch": batch_size}
    example = loaded.example_input() if example is None and not runs else example
    expected = Expected.of(example, targets=True, **given)
    calibration = Nested(parts["calibration"], name="calibration", expected=expected, labelled=False, most=CALIBRATION)
    example = calibration.first(1)[0].value if runs else example_batch(calibration)
    outputs = check_run(loaded.model, example, task.run)
    search, report = parts["search"], parts.get("report")
    classes, task = classes_of(outputs), task if is_function(search) else task.suited(outputs)
    expected = Expected.of(example, classes, targets=task.reads_targets, **given)
    if is_function(search):
        task, _ = task.seen_in(search)
    else:
        task, search = task.seen_in(search, expected)
        task = task.completed(outputs)
        search = adapt(search, "search", expected, labelled=True if task.labels else None)
    if report is not None and not is_function(report):
        report = adapt(report, "report", expected, labelled=True if task.labels else None)
    return Inputs(
        model=loaded.model,
        example_input=example,
        calibration=calibration,
        search=search,
        report=report,
        model_spec={**named, "input_shape": list(loaded.input_shape), "num_classes": classes, "buildable": True},
        recorded={
            "model_fingerprint": loaded.fingerprint,
            "data_fingerprint": fingerprint_parts(calibration, search, report),
            "input_shape": tuple(loaded.input_shape),
            **task.recorded,
        },
        task=task,
    )
