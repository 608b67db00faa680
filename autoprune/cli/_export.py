"""``autoprune export``: a run's network as a file that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json

EPILOG = """\b
Examples:
    autoprune export runs/digits-ddpg-0.5-s0 --format onnx
    autoprune export runs/r56 --finetuned distilled --format onnx
    autoprune export runs/r56 --format pt2 --to r56-half.pt2
"""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search or of `prune`.")],
    format: Annotated[str, typer.Option("--format", help="onnx, pt2 or safetensors.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The file.  [default: in the run folder]")
    ] = None,
    finetuned: options.Finetuned = None,
    model: options.Model = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Write a run's pruned network as ONNX, as PyTorch's exported program, or as its state dict."""
    from autoprune.export import SUFFIXES, check_format, export_model
    from autoprune.finetuning import finetuned_weights
    from autoprune.rebuild import rebuild_run
    from autoprune.run import RunFolder

    check_format(format)
    folder = RunFolder(run)
    weights = None if finetuned is None else finetuned_weights(folder, finetuned)
    rebuilt = rebuild_run(folder, model=model, weights=weights)
    path = to if to is not None else (folder.path if weights is None else weights.parent) / f"model{SUFFIXES[format]}"
    dynamic = export_model(rebuilt.model, rebuilt.example_input, path, format=format)
    size = path.stat().st_size
    if as_json:
        result_json({"path": str(path), "format": format, "dynamic_batch": dynamic, "size_bytes": size})
    else:
        batch = "" if dynamic else f", for batches of exactly {len(rebuilt.example_input)}"
        result(f"Wrote {path} ({size:,} bytes{batch})")
    return 0
