"""From run folders to the page on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoprune.errors import UsageError
from autoprune.page._charts import write_charts
from autoprune.page._page import page
from autoprune.page._run import Run, read_run
from autoprune.support.files import write_text_atomic
from autoprune.support.reading import reading

SUFFIXES = (".html", ".htm")


def default_path(folders: Sequence[Path]) -> Path:
    """Return where the page of these runs goes: into the folder of the first."""
    return folders[0] / ("report.html" if len(folders) == 1 else "comparison.html")


def check_path(path: Path) -> None:
    """See that a page can be called that.

    Raises:
        UsageError: if its ending is not that of HTML.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"The page '{path}' must end in .html.")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders, each under a label of its own: its name, or its path where names are equal.

    Raises:
        UsageError: if one is no run or damaged, or is named twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(resolved):
        if folder in resolved[:number]:
            raise UsageError(f"The run '{folders[number]}' is named twice; name every run once.")
    names = [folder.name for folder in resolved]
    labels = [name if names.count(name) == 1 else str(given) for name, given in zip(names, folders, strict=True)]
    return [read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


def write_page(folders: Sequence[Path], out: Path | None = None, *, svg: bool = False) -> tuple[Path, list[Path]]:
    """Write the page of one run, or of several over one another.

    Args:
        folders: Run folders, finished or not.
        out: The file; by default ``report.html`` (``comparison.html`` for several) in the first folder.
        svg: Whether the main charts are also written as .svg files, in a folder beside it called like it.

    Returns:
        The page's path, and those of the charts.

    Raises:
        UsageError: if a run is not there or damaged, or the name is wrong.
        AutopruneError: if a file cannot be written.
    """
    path = out if out is not None else default_path(folders)
    check_path(path)
    runs = read_runs(folders)
    named = " and ".join(f"'{folder}'" for folder in folders)
    with reading(f"The report of {named}", "restore its files or run the search again"):
        text = page(runs)
    write_text_atomic(path, text)
    return path, write_charts(runs, path.with_suffix("")) if svg else []
