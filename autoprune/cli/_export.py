"""``autoprune export``: a run's network as a file that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say
from autoprune.cli._verify import machine, print_verification

EPILOG = """\b
Examples:
    autoprune export runs/digits-auto-0.5-s0 --format onnx
    autoprune export runs/r56 --finetuned distilled --format onnx --verify
    autoprune export runs/r56 --format pt2 --out r56-half.pt2
"""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished search or of `prune`.")],
    format: Annotated[str, typer.Option("--format", help="onnx, pt2 or safetensors.")],
    out: Annotated[
        Path | None, typer.Option("--out", "--to", metavar="FILE", help="The file.  [default: in the run folder]")
    ] = None,
    finetuned: options.Finetuned = None,
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Read it back and compare it on all report images, and time all networks of the run; or do not.  "
            "[default: compare it on 256 report images]",
        ),
    ] = None,
    no_time: options.NoTime = False,
    threads: options.Threads = None,
    model: options.Model = None,
    data: options.Data = None,
    run_function: options.Run = None,
    download: options.Download = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a run's pruned network as ONNX, as PyTorch's exported program, or as its state dict, and verify it.

    The file is read back and run on report images (on random ones where there are none): every top-1 class must be that of
    the run's network, and logits may differ by rounding only. If not, the exit code is 1 and nothing is written. FILE.json
    beside it keeps its checksum and the figures; `autoprune verify FILE` checks it again.
    """
    from autoprune.verification import BOUND, export_run

    tell = (lambda text: None) if quiet else say
    found = export_run(
        run,
        format=format,
        out=out,
        finetuned=finetuned,
        model=model,
        verify=verify is not False,
        data=data,
        run_function=run_function,
        limit=None if verify else BOUND,
        download=download,
        time=not no_time,
        threads=threads,
        say=tell,
    )
    networks = _time_networks(run, model, threads, tell) if verify and not no_time else None
    if as_json:
        result_json({**found, "networks": networks})
        return 0
    batch = "" if found["dynamic_batch"] else ", for one batch size only"
    result(f"Wrote {found['path']} ({found['size_bytes']:,} bytes{batch})")
    if found["verification"] is not None:
        print_verification(found["verification"])
    if networks is not None:
        from autoprune.timing import timing_table

        result(f"\nThe networks of the run, {machine(networks)} (kept in {run / 'timing.json'}):")
        result(timing_table(networks["rows"]))
    return 0


def _time_networks(run: Path, model: str | None, threads: int | None, tell: Any) -> dict[str, Any] | None:
    """Time all networks of a finished search; None for a folder of `prune`."""
    from autoprune.report import time_run
    from autoprune.runs import RunFolder

    return time_run(run, model=model, threads=threads, progress=tell) if RunFolder(run).finished else None
