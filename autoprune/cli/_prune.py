"""``autoprune prune``: rebuild the small network that a policy describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say

EPILOG = """\b
Examples:
    autoprune prune --policy runs/digits-auto-0.5-s0/policy.json
    autoprune prune --policy policy.json --model cifar-resnet56 \\
        --weights resnet56.safetensors --data cifar10:data/cifar10
    autoprune prune --policy policy.json --model my_nets.py:make_net \\
        --weights net.pth --no-refit --out small
"""


def prune(
    policy: Annotated[Path, typer.Option("--policy", metavar="FILE", help="A policy.json.")],
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    run: options.Run = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the small network.  [default: 'pruned' beside the policy]"),
    ] = None,
    no_refit: Annotated[bool, typer.Option("--no-refit", help="Slice the dense weights, refit nothing.")] = False,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    transform: options.Transform = None,
    download: options.Download = False,
    device: options.Device = None,
    allow: options.Allow = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Rebuild the small network that a policy describes.

    Its weights are the refitted ones beside the policy (policy.safetensors or model.safetensors). If there are none, the
    dense weights are refitted on --data; with --no-refit they are only sliced.
    """
    from autoprune.data import Preparation
    from autoprune.searching import apply_policy

    applied = apply_policy(
        policy,
        model=model,
        weights=weights,
        data=data,
        run=run,
        refit=not no_refit,
        mean=options.numbers(mean, "--mean"),
        std=options.numbers(std, "--std"),
        download=download,
        device=device or "cpu",
        preparation=Preparation(**options.preparation(resize, crop, transform)),
    )
    folder = out if out is not None else policy.parent / "pruned"
    applied.save(folder)
    for note in applied.notes:
        say(note)
    found = {
        "path": str(folder),
        "weights": applied.weights,
        "macs": applied.macs,
        "params": applied.params,
        "dense_macs": applied.dense_macs,
        "dense_params": applied.dense_params,
    }
    if as_json:
        result_json(found)
    else:
        result(
            f"{applied.macs:,} of {applied.dense_macs:,} MACs ({applied.macs / applied.dense_macs:.3f}), "
            f"{applied.params:,} of {applied.dense_params:,} parameters; {applied.weights}."
        )
        result(f"Wrote policy.json, model.safetensors and load.py to {folder}")
    return 0
