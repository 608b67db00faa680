"""``autoprune inspect``: what of a network can be pruned, what not and why, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say

EPILOG = """\b
Examples:
    autoprune inspect --model cifar-resnet56
    autoprune inspect --model torchvision:resnet50 --include-residual
    autoprune inspect --model torchvision:resnet18 --ignore layer1 --bounds 'layer4.*=0.5:1.0'
    autoprune inspect --model my_nets.py:make_net --input-size 3x64x64 --json
    autoprune inspect --model torchvision:mobilenet_v3_small --plot groups.svg
"""


def inspect(
    model: options.Model = None,
    weights: options.Weights = None,
    input_size: options.InputSize = None,
    include_residual: Annotated[
        bool, typer.Option("--include-residual", help="Count groups that cross a residual join as decisions too.")
    ] = False,
    min_keep: Annotated[float, typer.Option("--min-keep", help="Least share of a group's channels that stays.")] = 0.1,
    round_to: Annotated[int, typer.Option("--round-to", help="Keep multiples of so many channels.")] = 1,
    ignore: options.Ignore = None,
    bounds: options.Bounds = None,
    part: options.Part = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Also draw the groups into a .png, .svg or .pdf file."),
    ] = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Show a network's layers, which channels go together, what cannot be pruned and why, and the budgets that can be met."""
    from autoprune import report
    from autoprune.inspection import inspect_model, inspection_text, inspection_view
    from autoprune.models import load_model

    if plot is not None:
        report.check_path(plot)
    limits = options.bounds(bounds)

    loaded = load_model(
        model if model is not None else "digits", weights=weights, input_size=options.shape(input_size) or None
    )
    found: dict[str, Any] = inspect_model(
        loaded.model,
        loaded.example_input(),
        include_residual=include_residual,
        min_keep=min_keep,
        round_to=round_to,
        ignore=ignore,
        bounds=limits,
        part=tuple(part or ()),
    )
    found = {"model": loaded.spec, "input_shape": list(loaded.input_shape), **found}
    if plot is not None:
        report.draw(report.picture(found), plot)
        say(f"Drew the coupling groups into {plot}.")
    console = Console(highlight=False)
    if as_json:
        result_json(found)
    elif console.is_terminal:
        console.print(inspection_view(found), crop=False)
    else:
        result(inspection_text(found))
    return 0
