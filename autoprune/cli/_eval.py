"""``autoprune eval``: accuracy and loss of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say

EPILOG = """\b
Examples:
    autoprune eval runs/digits-auto-0.5-s0
    autoprune eval runs/r56 --finetuned distilled
    autoprune eval runs/r56/model.onnx --model cifar-resnet56 --data cifar10:data/cifar10
    autoprune eval --model cifar-resnet56 --weights resnet56.safetensors \\
        --data cifar10:data/cifar10 --part search
"""


def evaluate(
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|FILE]", help="Folder of a finished search or of `prune`, or an .onnx or .pt2 file."
        ),
    ] = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    run: options.Run = None,
    finetuned: options.Finetuned = None,
    part: Annotated[str, typer.Option("--part", help="report or search.")] = "report",
    mean: options.Mean = None,
    std: options.Std = None,
    input_size: options.InputSize = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Images at a time.")] = 64,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    download: options.Download = False,
    device: options.Device = None,
    allow: options.Allow = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Measure a network: a run's, an exported file's (with the data and the preprocessing of --model), or a dense one."""
    from autoprune.data import Preparation
    from autoprune.evaluation import Metric
    from autoprune.models import untrained
    from autoprune.report import with_error
    from autoprune.verification import evaluate_target

    if target is None and untrained(model or "digits", weights):
        say(f"No --weights given: {model} has random weights, so expect no accuracy from it")
    found = evaluate_target(
        target,
        model=model,
        weights=weights,
        data=data,
        run=run,
        part=part,
        mean=options.numbers(mean, "--mean"),
        std=options.numbers(std, "--std"),
        input_shape=options.shape(input_size),
        batch_size=batch_size,
        download=download,
        device=device or "cpu",
        finetuned=finetuned,
        preparation=Preparation(**options.preparation(resize, crop, transform)),
        say=say,
    )
    if as_json:
        result_json(found)
    else:
        metric = Metric.from_dict(found["metric"])
        result(
            f"{found['network']}: {metric.name} {with_error(found, metric)}{metric.unit}, "
            f"loss {found['loss']:.4f} on the {found['images']:,} images of {found['data']}'s {part} part"
        )
    return 0
