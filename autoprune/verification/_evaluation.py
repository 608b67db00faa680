"""What ``autoprune eval`` does: find the network and the images it is to be measured on, and measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.data import Expected, Preparation
from autoprune.errors import AutopruneError, UsageError
from autoprune.evaluation import Evaluator, Task
from autoprune.exporting import load_exported
from autoprune.finetuning import finetuned_weights
from autoprune.models import LoadedModel, load_model
from autoprune.registry import nearest, only_named_by
from autoprune.runs import (
    Inputs,
    RunConfig,
    RunFolder,
    check_device,
    check_run,
    classes_of,
    inputs_for,
    lay_out_best,
    prepared_as,
    rebuild_run,
    run_function,
    task_of,
)
from autoprune.support.checksums import file_digest
from autoprune.verification._record import read_record

PARTS = ("report", "search")


@only_named_by("model", "data", "run")
def evaluate_target(
    target: Path | None,
    *,
    model: str | None,
    weights: str | None,
    data: str | None,
    part: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    input_shape: tuple[int, ...],
    batch_size: int,
    download: bool,
    device: str,
    finetuned: str | None = None,
    preparation: Preparation | None = None,
    run: str | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure a run's network, an exported file's, or a dense one; returns JSON-ready values.

    Args:
        target: A run folder, an ``.onnx`` or ``.pt2`` file, or None for the dense network.
        model: Specification of the dense network; None for the run's or digits. For a file it gives the preprocessing.
        weights: Weights of the dense network; not for a run, which has its own.
        data: Specification of the data; None for the run's or digits.
        part: "report" or "search".
        mean: Preprocessing; empty for the run's or the model's.
        std: Preprocessing; empty for the run's or the model's.
        input_shape: Shape (C, H, W) of one image; empty for the model's. Not for a run, which knows its own.
        batch_size: Images at a time.
        download: Whether the data may be downloaded.
        device: Torch device; exported files run on the CPU.
        preparation: What is done to the pictures of an image folder; None for the run's, or what is usual.
        finetuned: Which fine-tuning of the run; None for the network as the search left it.
        run: Runs a network on a batch of the data, ``package.module:function`` or ``file.py:function``; None for the run's own
            function, if it has one.
        say: Told what the user should know.

    Raises:
        UsageError: if anything is missing or does not fit.
    """
    if part not in PARTS:
        raise UsageError(f"Unknown part '{part}'.{nearest(part, list(PARTS))} Known: {', '.join(PARTS)}.")
    if batch_size < 1:
        raise UsageError(f"The value of batch-size is {batch_size}, but must be at least 1.")
    check_device(device)
    if finetuned is not None and (target is None or not target.is_dir()):
        raise UsageError(f"--finetuned {finetuned} is about the fine-tunings of a run; give the run's folder.")
    network: nn.Module
    task, refers = Task(run=run_function(run)), False
    if target is not None and target.is_dir():
        folder = RunFolder(target)
        _refuse_dense_options(target, weights, input_shape)
        data = data or _known_data(folder, model)
        tuned = None if finetuned is None else finetuned_weights(folder, finetuned)
        best = lay_out_best(folder, say or (lambda text: None))
        rebuilt = rebuild_run(folder if best is None else RunFolder(best), model=model, weights=tuned)
        network, loaded = rebuilt.model, rebuilt.loaded
        config = folder.read_config() if folder.exists else None
        task = task_of(config, run) if config is not None or rebuilt.nested else task
        if config is not None:
            mean, std = mean or config.mean, std or config.std
            preparation = prepared_as(preparation, config, data or config.data)
            refers = not task.labels
            loaded = _dense(folder, config) if refers else loaded
    else:
        loaded = load_model(model or "digits", weights=weights, input_size=input_shape or None)
        network = loaded.model if target is None else _exported(target)
        device = device if target is None else "cpu"
    if data is None and loaded.spec != "digits":
        raise UsageError(f"No data were given for '{loaded.spec}'; say which, for instance --data cifar10:ROOT.")
    given: dict[str, Any] = {"mean": mean, "std": std, "download": download, "preparation": preparation}
    inputs = inputs_for(loaded, data or "digits", task=task, batch_size=batch_size, **given)
    evaluator = _evaluator(inputs, part, torch.device(device), batch_size)
    try:
        if refers:
            evaluator.refer(inputs.model.to(device))
        accuracy, loss = evaluator(network.to(device))
    except AutopruneError:
        raise
    except Exception as error:
        if target is None or target.is_dir():
            raise
        raise UsageError(
            f"The network in '{target}' does not take the images of '{data or 'digits'}' as they are made for "
            f"'{loaded.spec}' (shape {tuple(loaded.input_shape)}); name what it was made from with --model and --data."
        ) from error
    return {
        "network": (str(target) if target is not None else loaded.spec) + (f" ({finetuned})" if finetuned else ""),
        "data": data or "digits",
        "part": part,
        "images": evaluator.size,
        "metric": evaluator.metric.to_dict(),
        "accuracy": accuracy,
        "accuracy_se": evaluator.error(accuracy),
        "loss": loss,
    }


def _evaluator(inputs: Inputs, part: str, device: torch.device, batch_size: int) -> Evaluator:
    """Return what measures networks on a part of the data.

    Raises:
        UsageError: if there is no such part.
    """
    chosen = inputs.report if part == "report" else inputs.search
    if chosen is None:
        raise UsageError("The data have no report part; measure on the other one with --part search.")
    task = inputs.task
    classes = classes_of(check_run(inputs.model, inputs.example_input, task.run))
    expected = Expected.of(
        inputs.example_input,
        classes,
        model=inputs.model,
        runs=task.run is not None,
        batch=batch_size,
        targets=task.reads_targets,
    )
    return Evaluator(chosen, name=part, device=device, batch_size=batch_size, expected=expected, task=task)


def _dense(folder: RunFolder, config: RunConfig) -> LoadedModel:
    """Return the dense network that a run without labels compares with.

    Raises:
        UsageError: if it cannot be made, or has other weights than in the run.
    """
    found = load_model(config.model, weights=config.weights, input_size=config.input_shape or None)
    if found.fingerprint != config.model_fingerprint:
        raise UsageError(
            f"The run in '{folder.path}' compares with its dense network, but '{config.model}' now has other weights; give a "
            "--model that has the run's."
        )
    return found


def _exported(file: Path) -> nn.Module:
    """Load an exported file, which must be what its record says, if there is one beside it."""
    record = read_record(file) if file.is_file() else None
    if record is not None and file_digest(file) != record["sha256"]:
        raise AutopruneError(
            f"The file '{file}' is not what was exported: its SHA-256 is not that of its record; export it again."
        )
    return load_exported(file)


def _refuse_dense_options(target: Path, weights: str | None, input_shape: tuple[int, ...]) -> None:
    """Refuse what can be said of a dense network only."""
    if weights is not None:
        raise UsageError(
            f"--weights {weights} is about a dense network, but '{target}' has weights of its own; leave it out, "
            "or name a fine-tuning's with --finetuned."
        )
    if input_shape:
        raise UsageError(
            f"--input-size {'x'.join(map(str, input_shape))} is about a dense network, but '{target}' was pruned for its own "
            "size; leave it out."
        )


def _known_data(folder: RunFolder, model: str | None) -> str | None:
    """Return the data of a run; None for a folder that says none.

    Raises:
        UsageError: if they were passed from Python.
    """
    if not folder.exists:
        return None
    data = folder.read_config().data
    if data != "python":
        return data
    also = "" if model is not None else " (and --model package.module:factory, where the model was passed, too)"
    raise UsageError(
        f"The run in '{folder.path}' was made from Python, so its data have no name; give them with --data, for instance "
        f"--data cifar10:ROOT{also}."
    )
