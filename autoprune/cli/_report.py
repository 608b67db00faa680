"""``autoprune report``: a run, or several over one another, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli import _options as options
from autoprune.cli._output import result, result_json, say

EPILOG = """\b
Examples:
    autoprune report runs/digits-auto-0.5-s0
    autoprune report runs/r56 --sensitivity --svg --out r56.html
    autoprune report runs/r56-tpe runs/r56-ddpg --out comparison.html
"""


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of searches, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="The .html file.  [default: report.html in RUN, comparison.html in the first of several]",
        ),
    ] = None,
    svg: Annotated[
        bool, typer.Option("--svg", help="Also write the main charts as .svg files, in a folder beside it.")
    ] = False,
    no_time: Annotated[bool, typer.Option("--no-time", help="Do not measure times where there are none yet.")] = False,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="First score each group alone at 0.25, 0.5 and 0.75 of its channels (kept in the run).",
        ),
    ] = False,
    download: options.Download = False,
    allow: options.Allow = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Write a run as one self-contained HTML page: headline, policy, search, sensitivity, fine-tuning, configuration.

    Several runs are laid over one another. The page needs no network, no script and no other file.
    """
    from autoprune.errors import AutopruneError
    from autoprune.inspection import measure
    from autoprune.page import check_path, read_runs, write_page
    from autoprune.report import FILE as TIMING
    from autoprune.report import time_run
    from autoprune.runs import RunFolder

    if out is not None:
        check_path(out)
    tell = (lambda text: None) if quiet else say
    for read in read_runs(runs):  # what is damaged is to be said before anything is measured
        for remark in read.remarks:
            tell(remark)
    for path in runs:
        folder = RunFolder(path)
        if sensitivity:
            measure(folder, download=download, say=tell)
        if not no_time and folder.finished and not (path / TIMING).is_file():
            try:
                tell(f"Measuring times of {path} (--no-time to leave that out)")
                time_run(path)
            except AutopruneError as error:
                say(f"No times of {path}: {error}")
    page, charts = write_page(runs, out, svg=svg)
    if as_json:
        result_json({"path": str(page), "charts": [str(path) for path in charts]})
    else:
        result(f"Wrote the report to {page}" + (f" and its charts to {charts[0].parent}" if charts else ""))
    return 0
