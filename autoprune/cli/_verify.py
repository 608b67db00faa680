"""``autoprune verify``: whether an exported file is still what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say
from autoprune.errors import UsageError
from autoprune.registry import is_factory

EPILOG = """\b
Examples:
    autoprune verify runs/r56/model.onnx
    autoprune verify deployed/r56.pt2 --run runs/r56 --images 500
"""


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported .onnx, .pt2 or .safetensors file.")],
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="RUN", help="The run it was exported from.  [default: what FILE.json says]"),
    ] = None,
    finetuned: options.Finetuned = None,
    images: Annotated[
        int | None, typer.Option("--images", help="Most report images, evenly spaced.  [default: all]")
    ] = None,
    no_time: options.NoTime = False,
    threads: options.Threads = None,
    model: options.Model = None,
    data: options.Data = None,
    run_function: Annotated[
        str | None,
        typer.Option(
            "--run-function",
            metavar="MODULE:FUNCTION",
            help="Your function run(model, batch), as --run of a search.  [default: the run's, with --allow]",
        ),
    ] = None,
    download: options.Download = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Check whether an exported file is what was exported and computes what the run's network does; exit code 1 if not.

    Its checksum is compared with that in FILE.json, its outputs with the run's network on the report images, its size and
    time with the dense network.
    """
    from autoprune.verification import verify_file

    if run is not None and is_factory(str(run)) and not run.exists():
        raise UsageError(
            f"--run {run} names a function, but of autoprune verify it is the folder of the run; give the function with "
            f"--run-function {run}."
        )
    found = verify_file(
        file,
        run=run,
        finetuned=finetuned,
        model=model,
        data=data,
        run_function=run_function,
        limit=images,
        download=download,
        time=not no_time,
        threads=threads,
        say=(lambda text: None) if quiet else say,
    )
    if as_json:
        result_json(found)
    else:
        result(f"{file}: {found['size_bytes']:,} bytes, SHA-256 {found['sha256'][:12]}…")
        print_verification(found)
    return 0


def print_verification(found: Mapping[str, Any]) -> None:
    """Print the figures of a verification."""
    from autoprune.timing import timing_table

    different, ties = found["top1_different"], found["ties"]
    top1 = "the same top-1 class on every one" if not different else f"another top-1 class on {different} (all ties)"
    assert different == ties
    what = f"{top1}; logits" if found["scores_classes"] else "outputs"
    result(
        f"Verified on {found['on']}: {what} differ by at most {found['max_difference']:.2g} "
        f"(largest {found['largest_logit']:.3g}, allowed {found['tolerance']:.2g})"
    )
    result(
        f"Size {found['size_ratio']:.3f} of the dense network's {found['dense_size_bytes']:,} bytes in the same format"
    )
    if found["timing"] is not None:
        timing = found["timing"]
        result(f"Time of one batch, {machine(timing)}:")
        result(timing_table(timing["rows"]))


def machine(timing: Mapping[str, Any]) -> str:
    """Return what times were measured with, in words."""
    return f"{timing['threads']} thread{'s' if timing['threads'] > 1 else ''}, {timing['cpu']}"
